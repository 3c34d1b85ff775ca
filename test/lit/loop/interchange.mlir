// RUN: loopmorph-opt %s -p 'morph-interchange{layer=conv1 order=ow,oh}' | FileCheck %s

// CHECK: morph.schedule = ["morph-interchange{layer=conv1 order=ow,oh}"]
// CHECK: affine.for %[[OW:.*]] = 0 to 30 {
// CHECK-NEXT: affine.for %[[OH:.*]] = 0 to 4 {
// CHECK-NEXT: %[[A:.*]] = affine.load %{{.*}}[%[[OH]], %[[OW]]] : memref<4x30xf32>
// CHECK-NEXT: affine.store %[[A]], %{{.*}}[%[[OW]], %[[OH]]] : memref<30x4xf32>
// CHECK-NEXT: } {morph.iter = "oh"}
// CHECK-NEXT: } {morph.iter = "ow", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
func.func @f(%x: memref<4x30xf32>, %y: memref<30x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 30 {
      %a = affine.load %x[%i, %j] : memref<4x30xf32>
      affine.store %a, %y[%j, %i] : memref<30x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
