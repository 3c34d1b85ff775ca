// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-tile{layer=conv1 iters=oh,ow sizes=2,4}'

// expected-error@unknown {{layer 'conv1': the order oh.0, ow.0, oh.1, ow.1 would reverse the flow dependence from store %arg0[oh + 1, ow] to load %arg0[oh, ow + 1], carried by 'oh' at distance (oh=1, ow=-1)}}
func.func @wavefront(%x: memref<9x9xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j + 1] : memref<9x9xf32>
      affine.store %a, %x[%i + 1, %j] : memref<9x9xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'sizes': the factor for 'ow' must be between 2 and 3, got 4}}
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

// expected-error@unknown {{layer 'conv1': the bounds of 'ow.0' depend on 'oh.1', which must stay outside it}}
func.func @triangle(%x: memref<8x8xf32>, %y: memref<8x8xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to affine_map<(d0) -> (d0 + 1)>(%i) {
      %a = affine.load %x[%i, %j] : memref<8x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x8xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.role = "main"}
  return
}
