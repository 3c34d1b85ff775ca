// RUN: loopmorph-opt %s --verify-diagnostics -p 'morph-prefetch{layer=a iter=ci distance=8}'
// RUN: not loopmorph-opt %S/prefetch.mlir -p "morph-prefetch{layer=conv1 iter=ci distance=0}" 2>&1 | FileCheck %s
// CHECK: expected at least 1 iteration, got 0

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
