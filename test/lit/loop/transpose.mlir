// RUN: loopmorph-opt %s -p 'morph-transpose{layer=k rows=w columns=h.1}' | FileCheck %s

// CHECK:      affine.for %[[B:.*]] = 0 to 3 {
// CHECK-NEXT:   %[[V0:.*]] = affine.vector_load %{{.*}}[0, %[[B]] * 2] : memref<2x6xf32>, vector<2xf32>
// CHECK:        %[[R0:.*]] = arith.mulf %[[V0]], %{{.*}} : vector<2xf32>
// CHECK:        affine.vector_load %{{.*}}[1, %[[B]] * 2] : memref<2x6xf32>, vector<2xf32>
// CHECK:        %[[R1:.*]] = arith.mulf
// CHECK:        %[[T0:.*]] = vector.shuffle %[[R0]], %[[R1]] [0, 2] : vector<2xf32>, vector<2xf32>
// CHECK-NEXT:   %[[T1:.*]] = vector.shuffle %[[R0]], %[[R1]] [1, 3] : vector<2xf32>, vector<2xf32>
// CHECK:        affine.vector_store %[[T0]], %{{.*}}[%[[B]] * 2, 0] : memref<6x2xf32>, vector<2xf32>
// CHECK-NEXT:   affine.vector_store %[[T1]], %{{.*}}[%[[B]] * 2 + 1, 0] : memref<6x2xf32>, vector<2xf32>
// CHECK-NEXT: } {morph.iter = "h.0", morph.layer = "k", morph.role = "main"}
func.func @f(%x: memref<2x6xf32>, %y: memref<6x2xf32>) {
  %half = arith.constant 0.5 : f32
  affine.for %b = 0 to 3 {
    affine.for %w = 0 to 2 {
      affine.for %h = 0 to 2 {
        %v = affine.load %x[%w, %b * 2 + %h] : memref<2x6xf32>
        %r = arith.mulf %v, %half : f32
        affine.store %r, %y[%b * 2 + %h, %w] : memref<6x2xf32>
      } {morph.iter = "h.1"}
    } {morph.iter = "w"}
  } {morph.iter = "h.0", morph.layer = "k", morph.role = "main"}
  return
}
