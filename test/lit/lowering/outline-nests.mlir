// Nests that differ only in their operands share one function.
// RUN: loopmorph-opt %s -p 'morph-outline-nests' | FileCheck %s

// CHECK: func.func private @run.0(%{{.+}}: memref<8xf32>, %{{.+}}: memref<8xf32>)
// CHECK-SAME: morph.kernel = "relu1"
// CHECK-NOT: func.func private
// CHECK-LABEL: func.func @run(
// CHECK-SAME: %[[X:[a-z0-9]+]]: memref<8xf32>, %[[T:[a-z0-9]+]]: memref<8xf32>, %[[Y:[a-z0-9]+]]: memref<8xf32>
// CHECK: call @run.0(%[[X]], %[[T]])
// CHECK: call @run.0(%[[T]], %[[Y]])
// CHECK-NOT: affine.for
func.func @run(%x: memref<8xf32>, %t: memref<8xf32>, %y: memref<8xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    %1 = arith.maximumf %0, %zero : f32
    affine.store %1, %t[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "relu1", morph.role = "main"}
  affine.for %i = 0 to 8 {
    %0 = affine.load %t[%i] : memref<8xf32>
    %1 = arith.maximumf %0, %zero : f32
    affine.store %1, %y[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "relu2", morph.role = "main"}
  return
}
