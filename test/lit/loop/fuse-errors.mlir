// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-fuse{layer=conv1 iters=oh,ow}'

// expected-error@unknown {{layer 'conv1': loops 'oh' and 'ow' are not perfectly nested in each other}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    %z = arith.constant 0.0 : f32
    affine.store %z, %y[0, %i] : memref<8x4xf32>
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': loops to fuse must be adjacent; between them: k}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %k = 0 to 2 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
    } {morph.iter = "k"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': the extent of loop 'ow' is no constant above 0}}
func.func @triangle(%x: memref<8x8xf32>, %y: memref<8x8xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to affine_map<(d0) -> (d0 + 1)>(%i) {
      %a = affine.load %x[%i, %j] : memref<8x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x8xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'iters': expected outermost first, got oh,ow}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "oh"}
  } {morph.iter = "ow", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
