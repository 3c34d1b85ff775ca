// Steps of loopmorph's own, and an upstream one on the outermost loop of the nest that the last of them changed.
// RUN: loopmorph-opt %s --transform %S/Inputs/tile-and-unroll.mlir | FileCheck %s

// CHECK: morph.schedule = ["morph-tile{layer=conv1 iters=co sizes=4}", "morph-interchange{layer=conv1 order=ci,co.1}"]
// CHECK: affine.for %{{.*}} = 0 to 4 step 2 {
// CHECK-NEXT: affine.for %{{.*}} = 0 to 8 {
// CHECK-NEXT: affine.for %{{.*}} = 0 to 4 {
// CHECK: {morph.iter = "co.1"}
// CHECK: {morph.iter = "ci"}
func.func @f(%x: memref<8x16xf32>, %y: memref<16xf32>) {
  affine.for %i = 0 to 16 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%j, %i] : memref<8x16xf32>
      %b = affine.load %y[%i] : memref<16xf32>
      %c = arith.addf %a, %b fastmath<reassoc> : f32
      affine.store %c, %y[%i] : memref<16xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.node = "n", morph.role = "main"}
  return
}
