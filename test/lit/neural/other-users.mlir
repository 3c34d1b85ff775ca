// RUN: not loopmorph-opt %s -p 'morph-mix{layer=a iter=co}' 2>&1 | FileCheck %s --check-prefix=MIX
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=oh factor=2}' 2>&1 | FileCheck %s --check-prefix=COARSE

// An operation that is in no nest says nothing of which of a result's elements it takes.

// MIX: error: layer 'a': its channels are used by memref.copy (loc("{{.*}}other-users.mlir":{{[0-9]+}}:3)), which cannot be followed
// COARSE: error: layer 'a', iterator 'oh': its result is used by 'memref.copy' as well

func.func @main(%x: memref<1x4x8xf32> {morph.input = 0 : i64}, %w: memref<8x4xf32> {morph.param = "a.weight"},
                %y: memref<1x8x8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<1x8x8xf32>
  affine.for %co = 0 to 8 {
    affine.for %oh = 0 to 8 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[0, %ci, %oh] : memref<1x4x8xf32>
        %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
        %2 = affine.load %t[0, %co, %oh] : memref<1x8x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %t[0, %co, %oh] : memref<1x8x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  memref.copy %t, %y : memref<1x8x8xf32> to memref<1x8x8xf32>
  memref.dealloc %t : memref<1x8x8xf32>
  return
}
