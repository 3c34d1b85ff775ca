// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2}' 2>&1 | FileCheck %s --check-prefix=OUTPUT
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=n factor=2}' 2>&1 | FileCheck %s --check-prefix=INPUT
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=3}' 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=1}' 2>&1 | FileCheck %s --check-prefix=FACTOR
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=co factor=2}' 2>&1 | FileCheck %s --check-prefix=LAYER
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=k factor=2}' 2>&1 | FileCheck %s --check-prefix=ITER
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=ci,co factor=2}' 2>&1 | FileCheck %s --check-prefix=ORDER
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=co,ci factor=8}' 2>&1 | FileCheck %s --check-prefix=GROUPS
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=n,co,ci factor=2}' 2>&1 | FileCheck %s --check-prefix=TWO
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=n,ci factor=2}' 2>&1 | FileCheck %s --check-prefix=WEIGHT
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=co factor=2}' 2>&1 | FileCheck %s --check-prefix=BAND
// RUN: not loopmorph-opt %s -p 'morph-group{layer=a iters=ci factor=2}' 2>&1 | FileCheck %s --check-prefix=REDUCED
// RUN: not loopmorph-opt %s -p 'morph-depthwise{layer=a}' 2>&1 | FileCheck %s --check-prefix=DEPTHWISE
// RUN: not loopmorph-opt %s -p 'morph-split{layer=a iter=co factor=3},morph-bottleneck{layer=a iter=ci factor=2}' 2>&1 | FileCheck %s --check-prefix=REMAINDER

// OUTPUT: error: layer 'a', iterator 'co': its dimension is tied to the network's output through layer 'a'
// INPUT: error: layer 'a', iterator 'n': it runs over the batch; only the points within one sample can be made coarser
// DIVIDE: error: layer 'a', iterator 'co': the extent 8 of iterator 'co' of layer 'a' is not divisible by 3
// FACTOR: error: argument 'factor': expected an integer of at least 2, got 1
// LAYER: error: argument 'layer': no layer 'b' in the program; the program has 'a'
// ITER: error: argument 'iter': layer 'a' has no iterator 'k'; it has n, co, ci
// ORDER: error: layer 'a': 'ci' has to index the result and 'co' to be reduced
// GROUPS: error: layer 'a': the extent 4 of iterator 'ci' is not divisible by 8
// TWO: error: argument 'iters': expected one iterator of the output, or two iterators, the output's first, got 'n,co,ci'
// WEIGHT: error: layer 'a': 'n' runs over the batch; each sample would be computed otherwise
// BAND: error: layer 'a': 'co' already indexes its weight 'a.weight'; it can be grouped with a reduction iterator
// REDUCED: error: layer 'a': 'ci' is reduced; bands are of an iterator that indexes the result
// DEPTHWISE: error: layer 'a': depthwise needs as many output as input channels: 'co' has 8, 'ci' 4
// REMAINDER: error: layer 'a', iterator 'ci': iterator 'ci' of layer 'a': its nest has a bound that is not constant

func.func @main(%x: memref<2x4xf32> {morph.input = 0 : i64}, %w: memref<8x4xf32> {morph.param = "a.weight"},
                %y: memref<2x8xf32> {morph.output = 0 : i64}) {
  affine.for %n = 0 to 2 {
    affine.for %co = 0 to 8 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[%n, %ci] : memref<2x4xf32>
        %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
        %2 = affine.load %y[%n, %co] : memref<2x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %y[%n, %co] : memref<2x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
