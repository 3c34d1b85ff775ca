// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-mix{layer=a iter=co}'

// expected-error@unknown {{layer 'a': its result is also written by layer 'b'}}
func.func @main(%x: memref<1x4xf32> {morph.input = 0 : i64}, %w: memref<8x4xf32> {morph.param = "a.weight"},
                %y: memref<1x8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %x[0, %ci] : memref<1x4xf32>
      %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
      %2 = affine.load %y[0, %co] : memref<1x8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[0, %co] : memref<1x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 4 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %x[0, %ci] : memref<1x4xf32>
      %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
      %2 = affine.load %y[0, %co] : memref<1x8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[0, %co] : memref<1x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': 'co' has to index exactly one axis of one activation, not 2}}
func.func @main(%x: memref<1x4xf32> {morph.input = 0 : i64}, %w: memref<8x4xf32> {morph.param = "a.weight"},
                %y: memref<1x8x8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %x[0, %ci] : memref<1x4xf32>
      %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
      %2 = affine.load %y[0, %co, %co] : memref<1x8x8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[0, %co, %co] : memref<1x8x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': it contracts no parameter; only such a layer can be given another}}
func.func @main(%x: memref<1x8xf32> {morph.input = 0 : i64}, %y: memref<1x8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    %0 = affine.load %x[0, %co] : memref<1x8xf32>
    affine.store %0, %y[0, %co] : memref<1x8xf32>
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': the iterator runs over samples, which stay apart}}
func.func @main(%x: memref<8x4xf32> {morph.input = 0 : i64}, %w: memref<4xf32> {morph.param = "a.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %x[%co, %ci] : memref<8x4xf32>
      %1 = affine.load %w[%ci] : memref<4xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}
