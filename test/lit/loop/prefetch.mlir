// RUN: loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci distance=8}' | FileCheck %s

// Eight iterations ahead of each vector.
// CHECK: affine.for %[[CO:.*]] = 0 to 4 {
// CHECK: affine.for %[[OW:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 64 {
// CHECK-NEXT: affine.prefetch %[[W:.*]][%[[CO]], %[[CI]] + 8, 0], read, locality<3>, data : memref<4x64x32xf32>
// CHECK-NEXT: affine.vector_load %[[W]][%[[CO]], %[[CI]], 0]
// CHECK-NEXT: affine.prefetch %[[W]][%[[CO]], %[[CI]] + 8, 16], read, locality<3>, data : memref<4x64x32xf32>
// CHECK-NEXT: affine.vector_load %[[W]][%[[CO]], %[[CI]], 16]
func.func @f(%w: memref<4x64x32xf32>, %x: memref<2x64xf32>, %y: memref<4x2x32xf32>) {
  affine.for %co = 0 to 4 {
    affine.for %ow = 0 to 2 {
      affine.for %ci = 0 to 64 {
        %a = affine.vector_load %w[%co, %ci, 0] : memref<4x64x32xf32>, vector<16xf32>
        %b = affine.vector_load %w[%co, %ci, 16] : memref<4x64x32xf32>, vector<16xf32>
        %s = affine.load %x[%ow, %ci] : memref<2x64xf32>
        %v = vector.broadcast %s : f32 to vector<16xf32>
        %p = arith.mulf %a, %v : vector<16xf32>
        %q = arith.mulf %b, %v : vector<16xf32>
        affine.vector_store %p, %y[%co, %ow, 0] : memref<4x2x32xf32>, vector<16xf32>
        affine.vector_store %q, %y[%co, %ow, 16] : memref<4x2x32xf32>, vector<16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
