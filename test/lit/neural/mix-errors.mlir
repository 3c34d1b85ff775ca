// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-mix{layer=a iter=co}'

// expected-error@unknown {{layer 'a': its result is also written by layer 'b'}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %y: memref<8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    %0 = affine.load %x[%co] : memref<8xf32>
    affine.store %0, %y[%co] : memref<8xf32>
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 4 {
    %0 = affine.load %x[%co] : memref<8xf32>
    affine.store %0, %y[%co] : memref<8xf32>
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': its channels hold i32; only floating-point ones can be mixed}}
func.func @main(%x: memref<8xi32> {morph.input = 0 : i64}, %y: memref<8xi32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    %0 = affine.load %x[%co] : memref<8xi32>
    affine.store %0, %y[%co] : memref<8xi32>
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': 'co' has to index exactly one axis of one activation, not 2}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %y: memref<8x8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    %0 = affine.load %x[%co] : memref<8xf32>
    affine.store %0, %y[%co, %co] : memref<8x8xf32>
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}
