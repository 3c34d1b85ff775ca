// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-split{layer=conv1 iter=ow factor=4}'

// expected-error@unknown {{argument 'factor': the factor for 'ow' must be between 2 and 3, got 4}}
func.func @f(%x: memref<4x4xf32>, %y: memref<4x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 4 {
      %a = affine.load %x[%i, %j] : memref<4x4xf32>
      affine.store %a, %y[%j, %i] : memref<4x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'ow' has extent 2, too short to be split}}
func.func @f(%x: memref<4x2xf32>, %y: memref<2x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 2 {
      %a = affine.load %x[%i, %j] : memref<4x2xf32>
      affine.store %a, %y[%j, %i] : memref<2x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': loop 'ow' does not start at 0 with step 1}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 1 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'iter': layer 'conv1' has no iterator 'ow'; it has oh, kw}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "kw"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': the nest already has an iterator 'ow.1'}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "ow.1", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
