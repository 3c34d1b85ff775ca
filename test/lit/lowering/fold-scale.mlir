// A scale and a shift per channel go into the weights and the start value.
// RUN: loopmorph-opt %s -p 'morph-fold-scale' | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK-SAME: %[[W:[a-z0-9]+]]: memref<8x4xf32> {morph.param = "w"}
// CHECK-SAME: %[[A:[a-z0-9]+]]: memref<8xf32> {morph.param = "a"}
// CHECK-SAME: %[[Y:[a-z0-9]+]]: memref<1x8xf32> {morph.output = 0 : i64}
// CHECK: %[[SCALE:.+]] = memref.alloc() : memref<8xf32>
// CHECK: affine.load %[[A]]
// CHECK: affine.store %{{.+}}, %[[SCALE]]
// CHECK: %[[SCALED:.+]] = memref.alloc() : memref<8x4xf32>
// CHECK: affine.load %[[W]][%[[I:.+]], %{{.+}}]
// CHECK: affine.load %[[SCALE]][%[[I]]]
// CHECK: arith.mulf
// CHECK: affine.store %{{.+}}, %[[SCALED]]
// CHECK: morph.role = "prologue"
// CHECK: %[[SHIFT:.+]] = memref.alloc() : memref<8xf32>
// CHECK: morph.role = "init"
// CHECK: affine.load %[[SCALED]]
// CHECK: affine.store %{{.+}}, %[[Y]]
// CHECK: morph.layer = "conv"
// CHECK-SAME: morph.role = "main"
// CHECK-NOT: affine.for
func.func @main(%w: memref<8x4xf32> {morph.param = "w"}, %a: memref<8xf32> {morph.param = "a"},
                %b: memref<8xf32> {morph.param = "b"}, %x: memref<1x4xf32> {morph.input = 0 : i64},
                %y: memref<1x8xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloc() : memref<1x8xf32>
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 8 {
      affine.store %zero, %t[%n, %co] : memref<1x8xf32>
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv", morph.role = "init"}
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 8 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[%n, %ci] : memref<1x4xf32>
        %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
        %2 = affine.load %t[%n, %co] : memref<1x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %t[%n, %co] : memref<1x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv", morph.role = "main"}
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 8 {
      %0 = affine.load %t[%n, %c] : memref<1x8xf32>
      %1 = affine.load %a[%n * 8 + %c] : memref<8xf32>
      %2 = affine.load %b[%n * 8 + %c] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %3, %2 : f32
      affine.store %4, %y[%n, %c] : memref<1x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "bn", morph.role = "main"}
  return
}
