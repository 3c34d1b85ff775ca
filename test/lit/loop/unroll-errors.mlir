// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-unroll{layer=conv1 iter=oh factor=4}'

// expected-error@unknown {{layer 'conv1': 'oh' is the outermost loop and cannot go away: no single loop would be left}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': the factor 4 does not divide the extent 6 of 'oh'; these do: 2, 3, 6}}
func.func @f(%x: memref<6x8xf32>, %y: memref<8x6xf32>) {
  affine.for %i = 0 to 6 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<6x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x6xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'factor': the factor for 'oh' must be between 2 and 3, got 4}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 3 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': loop 'oh' does not start at 0 with step 1}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 1 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
