// RUN: loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci spread=co}' | FileCheck %s
// RUN: not loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci spread=ci}' 2>&1 | FileCheck %s --check-prefix=INSIDE
// RUN: not loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci spread=ow}' 2>&1 | FileCheck %s --check-prefix=AGAIN
// RUN: not loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci}' 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci distance=1 spread=co}' 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not loopmorph-opt %s -p 'morph-prefetch{layer=bounded iter=ci spread=co}' 2>&1 | FileCheck %s --check-prefix=BOUNDS

// The 1024 weights of the next co, 32 of them (two cache lines) in each of the 2 * 16 iterations that use the present ones.
// CHECK: affine.for %[[CO:.*]] = 0 to 4 {
// CHECK: affine.for %[[OW:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 16 {
// CHECK-NEXT: affine.prefetch %[[W:.*]][0, 0, %[[CO]] * 1024 + %[[OW]] * 512 + %[[CI]] * 32 + 1024], read, locality<2>, data
// CHECK-NEXT: affine.prefetch %[[W]][0, 0, %[[CO]] * 1024 + %[[OW]] * 512 + %[[CI]] * 32 + 1040], read, locality<2>, data
// CHECK-NEXT: affine.vector_load %[[W]][%[[CO]], %[[CI]] * 4, 0]
// CHECK-NOT: prefetch
// CHECK: func.func @bounded
// INSIDE: layer 'conv1': loop 'ci' is not around loop 'ci'
// AGAIN: layer 'conv1': no iteration of loop 'ow' reads one piece of memory again and again in vectors; give a distance
// NONE: argument 'distance': morph-prefetch needs either a distance or a loop to spread over
// BOUNDS: layer 'bounded': loop 'ow' does not run from 0 to a constant by ones
func.func @f(%w: memref<4x64x16xf32>, %y: memref<4x2x16x16xf32>) {
  affine.for %co = 0 to 4 {
    affine.for %ow = 0 to 2 {
      affine.for %ci = 0 to 16 {
        %a = affine.vector_load %w[%co, %ci * 4, 0] : memref<4x64x16xf32>, vector<16xf32>
        affine.vector_store %a, %y[%co, %ow, %ci, 0] : memref<4x2x16x16xf32>, vector<16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
func.func @bounded(%w: memref<4x64x16xf32>, %y: memref<4x2x16x16xf32>) {
  affine.for %co = 0 to 4 {
    affine.for %ow = 1 to 2 {
      affine.for %ci = 0 to 16 {
        %a = affine.vector_load %w[%co, %ci * 4, 0] : memref<4x64x16xf32>, vector<16xf32>
        affine.vector_store %a, %y[%co, %ow, %ci, 0] : memref<4x2x16x16xf32>, vector<16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "bounded", morph.node = "conv", morph.role = "main"}
  return
}
