// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-vectorize{layer=relu iter=w width=8}'

// expected-error@unknown {{layer 'relu': the extent 4 of 'w' is less than the width 8}}
func.func @short(%x: memref<3x4xf32>, %y: memref<3x4xf32>) {
  affine.for %c = 0 to 3 {
    affine.for %w = 0 to 4 {
      %a = affine.load %x[%c, %w] : memref<3x4xf32>
      affine.store %a, %y[%c, %w] : memref<3x4xf32>
    } {morph.iter = "w"}
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'relu': the iterations of 'w' cannot run side by side: the flow dependence from store %arg0[w + 1] to load %arg0[w], carried by 'w' at distance (w=1)}}
func.func @recurrence(%x: memref<17xf32>) {
  affine.for %w = 0 to 16 {
    %a = affine.load %x[%w] : memref<17xf32>
    affine.store %a, %x[%w + 1] : memref<17xf32>
  } {morph.iter = "w", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'relu': loop 'w' holds other loops; only an innermost one can be vectorised}}
func.func @outer(%x: memref<3x16xf32>, %y: memref<3x16xf32>) {
  affine.for %w = 0 to 16 {
    affine.for %c = 0 to 3 {
      %a = affine.load %x[%c, %w] : memref<3x16xf32>
      affine.store %a, %y[%c, %w] : memref<3x16xf32>
    } {morph.iter = "c"}
  } {morph.iter = "w", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'relu': arith.index_cast uses the iterator 'w' as a value, not only in indices}}
func.func @value(%y: memref<16xi32>) {
  affine.for %w = 0 to 16 {
    %a = arith.index_cast %w : index to i32
    affine.store %a, %y[%w] : memref<16xi32>
  } {morph.iter = "w", morph.layer = "relu", morph.role = "main"}
  return
}
