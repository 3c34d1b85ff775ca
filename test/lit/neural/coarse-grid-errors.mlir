// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=n factor=2}' 2>&1 | FileCheck %s --check-prefix=BATCH
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=oh factor=3}' 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=oh factor=2}' 2>&1 | FileCheck %s --check-prefix=SHARED
// RUN: not loopmorph-opt %s -p 'morph-split{layer=a iter=oh factor=3},morph-bottleneck{layer=a iter=oh.0 factor=3}' 2>&1 | FileCheck %s --check-prefix=REMAINDER
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=k factor=2}' 2>&1 | FileCheck %s --check-prefix=EARLY

// BATCH: error: layer 'a', iterator 'n': it runs over the batch; only the points within one sample can be made coarser
// DIVIDE: error: layer 'a', iterator 'oh': the extent 8 of iterator 'oh' of layer 'a' is not divisible by 3
// SHARED: error: layer 'b', iterator 'oh': layer 'c' writes its result as well
// REMAINDER: error: layer 'a', iterator 'oh.0': its nest has a bound that is not constant (a split with a remainder)
// EARLY: error: argument 'iter': layer 'b' has no iterator 'k'; it has n, oh, ci

func.func @main(%x: memref<2x4x8xf32> {morph.input = 0 : i64}, %w: memref<4xf32> {morph.param = "a.weight"},
                %v: memref<4xf32> {morph.param = "b.weight"},
                %y: memref<2x8xf32> {morph.output = 0 : i64}, %z: memref<2x8xf32> {morph.output = 1 : i64}) {
  %zero = arith.constant 0.0 : f32
  affine.for %n = 0 to 2 {
    affine.for %oh = 0 to 8 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[%n, %ci, %oh] : memref<2x4x8xf32>
        %1 = affine.load %w[%ci] : memref<4xf32>
        %2 = affine.load %y[%n, %oh] : memref<2x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %y[%n, %oh] : memref<2x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "oh"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  affine.for %n = 0 to 2 {
    affine.for %oh = 0 to 8 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[%n, %ci, %oh] : memref<2x4x8xf32>
        %1 = affine.load %v[%ci] : memref<4xf32>
        %2 = affine.load %z[%n, %oh] : memref<2x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %z[%n, %oh] : memref<2x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "oh"}
  } {morph.iter = "n", morph.layer = "b", morph.role = "main"}
  affine.for %n = 0 to 2 {
    affine.for %oh = 0 to 8 {
      %0 = affine.load %z[%n, %oh] : memref<2x8xf32>
      %1 = arith.maximumf %0, %zero : f32
      affine.store %1, %z[%n, %oh] : memref<2x8xf32>
    } {morph.iter = "oh"}
  } {morph.iter = "n", morph.layer = "c", morph.role = "main"}
  return
}
