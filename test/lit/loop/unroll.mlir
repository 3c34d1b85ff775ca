// RUN: loopmorph-opt %s -p 'morph-unroll{layer=conv1 iter=ow factor=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-unroll{layer=conv1 iter=ow factor=6}' | FileCheck %s --check-prefix=FULL
// RUN: loopmorph-opt %s -p 'morph-unroll{layer=conv1 iter=oh factor=2}' | FileCheck %s --check-prefix=OUTER

// CHECK: affine.for %[[OH:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[OW:.*]] = 0 to 3 {
// CHECK-NEXT: affine.load %{{.*}}[%[[OH]], %[[OW]] * 2] : memref<4x6xf32>
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[OW]] * 2, %[[OH]]] : memref<6x4xf32>
// CHECK-NEXT: affine.load %{{.*}}[%[[OH]], %[[OW]] * 2 + 1] : memref<4x6xf32>
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[OW]] * 2 + 1, %[[OH]]] : memref<6x4xf32>
// CHECK-NEXT: } {morph.iter = "ow"}

// FULL: affine.for %[[OH:.*]] = 0 to 4 {
// FULL-NEXT: affine.load %{{.*}}[%[[OH]], 0] : memref<4x6xf32>
// FULL-COUNT-5: affine.store
// FULL: affine.load %{{.*}}[%[[OH]], 5] : memref<4x6xf32>
// FULL-NEXT: affine.store
// FULL-NEXT: } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}

// OUTER: affine.for %[[OH:.*]] = 0 to 2 {
// OUTER-NEXT: affine.for %[[A:.*]] = 0 to 6 {
// OUTER-NEXT: affine.load %{{.*}}[%[[OH]] * 2, %[[A]]]
// OUTER: {morph.iter = "ow_0"}
// OUTER-NEXT: affine.for %[[B:.*]] = 0 to 6 {
// OUTER-NEXT: affine.load %{{.*}}[%[[OH]] * 2 + 1, %[[B]]]
// OUTER: {morph.iter = "ow_1"}
// OUTER-NEXT: {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
func.func @f(%x: memref<4x6xf32>, %y: memref<6x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 6 {
      %a = affine.load %x[%i, %j] : memref<4x6xf32>
      affine.store %a, %y[%j, %i] : memref<6x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
