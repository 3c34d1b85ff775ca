// RUN: loopmorph-opt %s -p 'morph-tile{layer=conv1 iters=oh,ow sizes=2,8}' | FileCheck %s

// CHECK: affine_map<(d0) -> (8, d0 * -8 + 30)>
// CHECK: affine.for %[[A:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[B:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[D:.*]] = 0 to min #{{.*}}(%[[B]]) {
// CHECK-NEXT: affine.load %{{.*}}[%[[A]] * 2 + %[[C]], %[[B]] * 8 + %[[D]]] : memref<4x30xf32>
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[B]] * 8 + %[[D]], %[[A]] * 2 + %[[C]]] : memref<30x4xf32>
// CHECK-NEXT: } {morph.iter = "ow.1"}
// CHECK-NEXT: } {morph.iter = "oh.1"}
// CHECK-NEXT: } {morph.iter = "ow.0"}
// CHECK-NEXT: } {morph.iter = "oh.0", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
func.func @f(%x: memref<4x30xf32>, %y: memref<30x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 30 {
      %a = affine.load %x[%i, %j] : memref<4x30xf32>
      affine.store %a, %y[%j, %i] : memref<30x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
