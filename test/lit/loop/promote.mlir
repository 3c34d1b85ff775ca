// RUN: loopmorph-opt %s -p 'morph-promote{layer=conv1}' | FileCheck %s

// CHECK: affine.for %[[CO:.*]] = 0 to 8 {
// CHECK-NEXT: %[[Y:.*]] = affine.vector_load %{{.*}}[%[[CO]], 0] : memref<8x16xf32>, vector<16xf32>
// CHECK-NEXT: %[[R:.*]] = affine.for %[[CI:.*]] = 0 to 4 iter_args(%[[A:.*]] = %[[Y]]) -> (vector<16xf32>) {
// CHECK-NEXT: %[[Q:.*]] = affine.for %[[K:.*]] = 0 to 9 iter_args(%[[B:.*]] = %[[A]]) -> (vector<16xf32>) {
// CHECK-NEXT: %[[V:.*]] = affine.vector_load
// CHECK-NEXT: %[[S:.*]] = arith.addf %[[B]], %[[V]] : vector<16xf32>
// CHECK-NEXT: %[[W:.*]] = affine.vector_load
// CHECK-NEXT: %[[T:.*]] = arith.addf %[[S]], %[[W]] : vector<16xf32>
// CHECK-NEXT: affine.yield %[[T]] : vector<16xf32>
// CHECK-NEXT: } {morph.iter = "k"}
// CHECK-NEXT: affine.yield %[[Q]] : vector<16xf32>
// CHECK-NEXT: } {morph.iter = "ci"}
// CHECK-NEXT: affine.vector_store %[[R]], %{{.*}}[%[[CO]], 0] : memref<8x16xf32>, vector<16xf32>
// CHECK-NEXT: } {morph.iter = "co", morph.layer = "conv1", morph.parallel, morph.role = "main"}
func.func @f(%w: memref<4x9x2x16xf32>, %y: memref<8x16xf32>) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 4 {
      affine.for %k = 0 to 9 {
        %v = affine.vector_load %w[%ci, %k, 0, 0] : memref<4x9x2x16xf32>, vector<16xf32>
        %a = affine.vector_load %y[%co, 0] : memref<8x16xf32>, vector<16xf32>
        %s = arith.addf %a, %v : vector<16xf32>
        affine.vector_store %s, %y[%co, 0] : memref<8x16xf32>, vector<16xf32>
        %u = affine.vector_load %w[%ci, %k, 1, 0] : memref<4x9x2x16xf32>, vector<16xf32>
        %b = affine.vector_load %y[%co, 0] : memref<8x16xf32>, vector<16xf32>
        %t = arith.addf %b, %u : vector<16xf32>
        affine.vector_store %t, %y[%co, 0] : memref<8x16xf32>, vector<16xf32>
      } {morph.iter = "k"}
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.parallel, morph.role = "main"}
  return
}
