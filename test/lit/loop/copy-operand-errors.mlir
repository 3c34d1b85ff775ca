// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-copy-operand{layer=mm operand=weight iters=ci,co}'
// RUN: not loopmorph-opt %s --split-input-file -p 'morph-copy-operand{layer=mm operand=weight iters=ci,ci}' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=TWICE
// RUN: not loopmorph-opt %s --split-input-file -p 'morph-copy-operand{layer=mm operand=output iters=ci}' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=OPERAND

// TWICE: expected one or more different iterators, got 'ci,ci'
// OPERAND: expected one of input, weight, got 'output'

// expected-error@unknown {{argument 'iters': the weight of layer 'mm' depends on b,co,ci, not on ci,co}}
func.func @batch(%x: memref<2x7x5xf32>, %v: memref<2x5x16xf32>, %y: memref<2x7x16xf32>) {
  affine.for %b = 0 to 2 {
    affine.for %n = 0 to 7 {
      affine.for %co = 0 to 16 {
        affine.for %ci = 0 to 5 {
          %a = affine.load %x[%b, %n, %ci] : memref<2x7x5xf32>
          %w = affine.load %v[%b, %ci, %co] : memref<2x5x16xf32>
          %s = affine.load %y[%b, %n, %co] : memref<2x7x16xf32>
          %m = arith.mulf %a, %w : f32
          %r = arith.addf %s, %m : f32
          affine.store %r, %y[%b, %n, %co] : memref<2x7x16xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "co"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "mm", morph.node = "mm", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'mm': which memref is its weight is not clear: it reads 2}}
func.func @twice(%x: memref<7x5xf32>, %v: memref<5x17xf32>, %y: memref<7x16xf32>) {
  affine.for %n = 0 to 7 {
    affine.for %co = 0 to 16 {
      affine.for %ci = 0 to 5 {
        %a = affine.load %x[%n, %ci] : memref<7x5xf32>
        %b = affine.load %v[%ci, %co] : memref<5x17xf32>
        %c = affine.load %v[%ci, %co + 1] : memref<5x17xf32>
        %s = affine.load %y[%n, %co] : memref<7x16xf32>
        %d = arith.addf %b, %c : f32
        %m = arith.mulf %a, %d : f32
        %r = arith.addf %s, %m : f32
        affine.store %r, %y[%n, %co] : memref<7x16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "mm", morph.node = "mm", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'iter': layer 'mm' has no iterator 'ci'}}
func.func @absent(%x: memref<4xf32>, %y: memref<4xf32>) {
  affine.for %c = 0 to 4 {
    %a = affine.load %x[%c] : memref<4xf32>
    affine.store %a, %y[%c] : memref<4xf32>
  } {morph.iter = "co", morph.layer = "mm", morph.role = "main"}
  return
}
