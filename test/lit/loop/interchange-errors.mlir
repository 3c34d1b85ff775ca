// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-interchange{layer=conv1 order=ow,oh}'

// expected-error@unknown {{layer 'conv1': the order ow, oh would reverse the flow dependence from store %arg0[oh + 1, ow] to load %arg0[oh, ow + 1], carried by 'oh' at distance (oh=1, ow=-1)}}
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

// expected-error@unknown {{layer 'conv1': the bounds of 'ow' depend on 'oh', which must stay outside it}}
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

// expected-error@unknown {{argument 'layer': no layer 'conv1' in the program}}
func.func @empty() {
  return
}

// -----

func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      // expected-error@below {{the dependence analysis does not know what memref.store accesses}}
      memref.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

func.func @f(%x: memref<8x8xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      // expected-error@below {{it reads, at an index that depends on data, what it writes}}
      %a = memref.load %x[%i, %j] : memref<8x8xf32>
      affine.store %a, %x[%j, %i] : memref<8x8xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'order': layer 'conv1' has no iterator 'ow'; it has oh, kw}}
func.func @f(%x: memref<4x8xf32>, %y: memref<8x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%j, %i] : memref<8x4xf32>
    } {morph.iter = "kw"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
