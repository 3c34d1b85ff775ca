// RUN: loopmorph-opt %s -p 'morph-unroll-jam{layer=conv1 iter=co factor=2}' | FileCheck %s

// CHECK: affine.for %[[CO:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 6 {
// CHECK-NEXT: affine.load %{{.*}}[%[[CO]] * 2, %[[CI]]] : memref<4x6xf32>
// CHECK: affine.store %{{.*}}, %{{.*}}[%[[CO]] * 2] : memref<4xf32>
// CHECK-NEXT: affine.load %{{.*}}[%[[CO]] * 2 + 1, %[[CI]]] : memref<4x6xf32>
// CHECK: affine.store %{{.*}}, %{{.*}}[%[[CO]] * 2 + 1] : memref<4xf32>
// CHECK-NEXT: } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
func.func @f(%w: memref<4x6xf32>, %x: memref<6xf32>, %y: memref<4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 6 {
      %a = affine.load %w[%i, %j] : memref<4x6xf32>
      %b = affine.load %x[%j] : memref<6xf32>
      %c = affine.load %y[%i] : memref<4xf32>
      %p = arith.mulf %a, %b : f32
      %s = arith.addf %c, %p : f32
      affine.store %s, %y[%i] : memref<4xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
