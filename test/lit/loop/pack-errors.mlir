// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-pack{layer=fc operand=output axes=1 factors=4}'

// expected-error@unknown {{layer 'fc': its output is an output of the program, whose layout is fixed; only local memrefs and parameters are packed}}
func.func @main(%x: memref<2x8xf32> {morph.input = 0 : i64}, %out: memref<2x8xf32> {morph.output = 0 : i64}) {
  affine.for %i = 0 to 2 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<2x8xf32>
      affine.store %a, %out[%i, %j] : memref<2x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': 4 does not divide 6, the extent of axis 1 of its output}}
func.func @main(%x: memref<2x6xf32>) {
  %y = memref.alloc() : memref<2x6xf32>
  affine.for %i = 0 to 2 {
    affine.for %j = 0 to 6 {
      %a = affine.load %x[%i, %j] : memref<2x6xf32>
      affine.store %a, %y[%i, %j] : memref<2x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{argument 'axes': the output of layer 'fc' has axes 0 to 0, not 1}}
func.func @main(%x: memref<8xf32>) {
  %y = memref.alloc() : memref<8xf32>
  affine.for %j = 0 to 8 {
    %a = affine.load %x[%j] : memref<8xf32>
    affine.store %a, %y[%j] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': its output is also used by 'memref.copy'; packing follows loads and stores in loops only}}
func.func @main(%x: memref<2x8xf32>, %z: memref<2x8xf32>) {
  %y = memref.alloc() : memref<2x8xf32>
  affine.for %i = 0 to 2 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<2x8xf32>
      affine.store %a, %y[%i, %j] : memref<2x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  memref.copy %y, %z : memref<2x8xf32> to memref<2x8xf32>
  return
}
