// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-promote{layer=conv1}'

// expected-error@unknown {{layer 'conv1': no loop reads and then writes an element that it does not index; there is nothing to promote}}
func.func @copy(%x: memref<8xf32>, %y: memref<8xf32>) {
  affine.for %i = 0 to 8 {
    %a = affine.load %x[%i] : memref<8xf32>
    affine.store %a, %y[%i] : memref<8xf32>
  } {morph.iter = "i", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': load %arg0[co] and load %arg0[ci + 4] in loop 'ci' may overlap; only one can be in a register}}
func.func @overlap(%y: memref<8xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 4 {
      %a = affine.load %y[%i] : memref<8xf32>
      %b = affine.load %y[%j + 4] : memref<8xf32>
      %s = arith.addf %a, %b : f32
      affine.store %s, %y[%i] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}
