// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-trim{layer=a iter=kh}'
// RUN: not loopmorph-opt %S/trim.mlir -p 'morph-skip-zeros{layer=a}' 2>&1 | FileCheck %s --check-prefix=SKIP
// RUN: not loopmorph-opt %S/skip-zeros.mlir -p 'morph-trim{layer=a iter=ci}' 2>&1 | FileCheck %s --check-prefix=CARRIES
// SKIP: no statement accumulates a product with a zero of the padding
// CARRIES: loop 'ci' carries no accumulators from 0 to a constant

// expected-error@unknown {{layer 'a': the sums of 'kh' have no common factor with padding}}
func.func @argument(%x: memref<10xf32>, %w: memref<3xf32>, %y: memref<8xf32>) {
  %z = arith.constant 0.0 : f32
  affine.for %oh = 0 to 8 {
    %r = affine.for %kh = 0 to 3 iter_args(%a = %z) -> (f32) {
      %v = affine.load %x[%oh + %kh] : memref<10xf32>
      %k = affine.load %w[%kh] : memref<3xf32>
      %p = arith.mulf %v, %k : f32
      %s = arith.addf %a, %p : f32
      affine.yield %s : f32
    } {morph.iter = "kh"}
    affine.store %r, %y[%oh] : memref<8xf32>
  } {morph.iter = "oh", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': a value that a loop carries is no sum of products}}
func.func @maximum(%x: memref<10xf32>, %y: memref<8xf32>) {
  %z = arith.constant 0.0 : f32
  affine.for %oh = 0 to 8 {
    %r = affine.for %kh = 0 to 3 iter_args(%a = %z) -> (f32) {
      %v = affine.load %x[%oh + %kh] : memref<10xf32>
      %s = arith.maximumf %a, %v : f32
      affine.yield %s : f32
    } {morph.iter = "kh"}
    affine.store %r, %y[%oh] : memref<8xf32>
  } {morph.iter = "oh", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': loop 'kh' does not move all of its products' factors into padding by one index}}
func.func @no_padding(%in: memref<10xf32>, %w: memref<3xf32>, %y: memref<8xf32>) {
  %z = arith.constant 0.0 : f32
  %x = memref.alloc() : memref<10xf32>
  affine.for %h = 0 to 10 {
    %v = affine.load %in[%h] : memref<10xf32>
    affine.store %v, %x[%h] : memref<10xf32>
  } {morph.iter = "h", morph.layer = "a", morph.role = "pad"}
  affine.for %oh = 0 to 8 {
    %r = affine.for %kh = 0 to 3 iter_args(%a = %z) -> (f32) {
      %v = affine.load %x[%oh + %kh] : memref<10xf32>
      %k = affine.load %w[%kh] : memref<3xf32>
      %p = arith.mulf %v, %k : f32
      %s = arith.addf %a, %p : f32
      affine.yield %s : f32
    } {morph.iter = "kh"}
    affine.store %r, %y[%oh] : memref<8xf32>
  } {morph.iter = "oh", morph.layer = "a", morph.role = "main"}
  return
}
