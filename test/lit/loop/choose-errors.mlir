// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv}' 2>&1 | FileCheck %s --check-prefix=NOTHING
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=fft}' 2>&1 | FileCheck %s --check-prefix=ALGORITHM
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv block=4x4}' 2>&1 | FileCheck %s --check-prefix=BLOCK
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=relu block=1x4x4}' 2>&1 | FileCheck %s --check-prefix=RELU
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv block=1x3x1},morph-default-schedule{width=4}' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=FIT
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv block=1x2x1},morph-default-schedule' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=LANE
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=winograd2},morph-default-schedule{width=4}' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=WINOGRAD
// RUN: sed 's/morph.layer = "relu"/morph.block = "1x2x1", morph.layer = "relu"/' %s > %t.relu.mlir
// RUN: not loopmorph-opt %t.relu.mlir -p 'morph-default-schedule{width=4}' 2>&1 | FileCheck %s --check-prefix=HELD
// RUN: sed 's/morph.layer = "conv"/morph.block = "one", morph.layer = "conv"/' %s > %t.conv.mlir
// RUN: not loopmorph-opt %t.conv.mlir -p 'morph-default-schedule{width=4}' 2>&1 | FileCheck %s --check-prefix=MALFORMED

// NOTHING: argument 'algorithm': morph-choose needs an algorithm, a block, or samples
// ALGORITHM: argument 'algorithm': expected one of direct, winograd2, winograd4, got 'fft'
// BLOCK: argument 'block': expected ROWSxCOLUMNSxBLOCKS such as 1x4x4, got '4x4'
// RELU: layer 'relu': it accumulates no products, so there is nothing to choose
// FIT: layer 'conv': the register block 1x3x1 does not fit; these do: 1x8x1, 1x4x1, 1x2x1, 1x1x1
// LANE: layer 'conv': no register block can be chosen: it is no contraction with a contiguous lane of 16
// WINOGRAD: layer 'conv': the algorithm 'winograd2' is not possible: a window moves along 0 axes of its input
// HELD: layer 'relu': a choice is for a layer with one main nest, which accumulates products
// MALFORMED: layer 'conv': morph.block: expected ROWSxCOLUMNSxBLOCKS such as 1x4x4, got 'one'
func.func @main(%x: memref<8x3xf32>, %w: memref<3x4xf32>, %y: memref<8x4xf32>) {
  affine.for %p = 0 to 8 {
    affine.for %co = 0 to 4 {
      affine.for %ci = 0 to 3 {
        %a = affine.load %x[%p, %ci] : memref<8x3xf32>
        %b = affine.load %w[%ci, %co] : memref<3x4xf32>
        %c = affine.load %y[%p, %co] : memref<8x4xf32>
        %m = arith.mulf %a, %b : f32
        %s = arith.addf %c, %m : f32
        affine.store %s, %y[%p, %co] : memref<8x4xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "p", morph.layer = "conv"}
  affine.for %p = 0 to 8 {
    %a = affine.load %x[%p, 0] : memref<8x3xf32>
    %b = arith.negf %a : f32
    affine.store %b, %y[%p, 0] : memref<8x4xf32>
  } {morph.iter = "p", morph.layer = "relu"}
  return
}
