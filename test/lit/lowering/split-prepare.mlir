// What depends on parameters alone runs once.
// RUN: loopmorph-opt %s -p 'morph-split-prepare' | FileCheck %s

// CHECK-LABEL: func.func @prepare
// CHECK-SAME: %[[W:[a-z0-9]+]]: memref<8xf32> {morph.param = "w"}
// CHECK-SAME: %[[V:[a-z0-9]+]]: memref<8xf32> {morph.packed = 0 : i64}
// CHECK: affine.load %[[W]]
// CHECK: affine.store %{{.+}}, %[[V]]
// CHECK-NOT: affine.for
// CHECK-LABEL: func.func @run
// CHECK-SAME: %[[X:[a-z0-9]+]]: memref<8xf32> {morph.input = 0 : i64}
// CHECK-SAME: %[[B:[a-z0-9]+]]: memref<8xf32> {morph.param = "b"}
// CHECK-SAME: %[[V2:[a-z0-9]+]]: memref<8xf32> {morph.packed = 0 : i64}
// CHECK-SAME: %[[Y:[a-z0-9]+]]: memref<8xf32> {morph.output = 0 : i64}
// CHECK: affine.load %[[X]]
// CHECK: affine.load %[[V2]]
// CHECK: affine.load %[[B]]
// CHECK: affine.store %{{.+}}, %[[Y]]
// CHECK-NOT: func.func @main
func.func @main(%w: memref<8xf32> {morph.param = "w"}, %b: memref<8xf32> {morph.param = "b"},
                %x: memref<8xf32> {morph.input = 0 : i64}, %y: memref<8xf32> {morph.output = 0 : i64}) {
  %v = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %w[%i] : memref<8xf32>
    %1 = arith.mulf %0, %0 : f32
    affine.store %1, %v[%i] : memref<8xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    %1 = affine.load %v[%i] : memref<8xf32>
    %2 = affine.load %b[%i] : memref<8xf32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %3, %2 : f32
    affine.store %4, %y[%i] : memref<8xf32>
  }
  return
}
