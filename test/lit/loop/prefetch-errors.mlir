// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-prefetch-next{layer=a iter=ci}'
// RUN: not loopmorph-opt %S/prefetch.mlir -p "morph-prefetch{layer=conv1 iter=ci distance=0}" 2>&1 | FileCheck %s
// CHECK: expected at least 1 iteration, got 0

func.func @once(%w: memref<4x64x16xf32>, %y: memref<4x16xf32>) {
  // expected-error @unknown {{no loop around 'ci' reads the same data again}}
  affine.for %co = 0 to 4 {
    affine.for %ci = 0 to 64 {
      %a = affine.vector_load %w[%co, %ci, 0] : memref<4x64x16xf32>, vector<16xf32>
      affine.vector_store %a, %y[%co, 0] : memref<4x16xf32>, vector<16xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

func.func @too_many_passes(%w: memref<4x64x16xf32>, %y: memref<4x3x16xf32>) {
  // expected-error @unknown {{16 elements in each iteration of 'ci' are no whole lines for 3 passes}}
  affine.for %co = 0 to 4 {
    affine.for %ow = 0 to 3 {
      affine.for %ci = 0 to 64 {
        %a = affine.vector_load %w[%co, %ci, 0] : memref<4x64x16xf32>, vector<16xf32>
        affine.vector_store %a, %y[%co, %ow, 0] : memref<4x3x16xf32>, vector<16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

func.func @not_in_order(%w: memref<64x4x16xf32>, %y: memref<4x2x16xf32>) {
  // expected-error @unknown {{loop 'ci' does not go on where the loops in it end}}
  affine.for %co = 0 to 4 {
    affine.for %ow = 0 to 2 {
      affine.for %ci = 0 to 64 {
        %a = affine.vector_load %w[%ci, %co, 0] : memref<64x4x16xf32>, vector<16xf32>
        affine.vector_store %a, %y[%co, %ow, 0] : memref<4x2x16xf32>, vector<16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

func.func @no_vectors(%w: memref<4x64xf32>, %y: memref<4x64xf32>) {
  // expected-error @unknown {{loop 'ci' holds no vector load that depends on it}}
  affine.for %co = 0 to 4 {
    affine.for %ci = 0 to 64 {
      %a = affine.load %w[%co, %ci] : memref<4x64xf32>
      affine.store %a, %y[%co, %ci] : memref<4x64xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}
