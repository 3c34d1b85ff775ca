// RUN: loopmorph-opt %s -p 'morph-depthwise{layer=a}' | FileCheck %s

// CHECK: module attributes {morph.schedule = ["morph-depthwise{layer=a}"]}
// CHECK: %[[W:[a-z0-9]+]]: memref<8x1xf32> {{.*}}morph.param = "a.weight"}
// CHECK: affine.for %[[G:.*]] = 0 to 8 {
// CHECK: affine.for %[[CO:.*]] = 0 to 1 {
// CHECK: affine.for %[[CI:.*]] = 0 to 1 {
// CHECK: affine.load %{{.*}}[%[[G]] + %[[CI]]] : memref<8xf32>
// CHECK: affine.load %[[W]][%[[G]] + %[[CO]], %[[CI]]] : memref<8x1xf32>
// CHECK: morph.iter = "g"
// CHECK-NOT: 8x8

func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %w: memref<8x8xf32> {morph.param = "a.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %w[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}
