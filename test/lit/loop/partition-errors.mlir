// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-partition{layer=a iter=j sizes=3,5}'

// expected-error@unknown {{argument 'sizes': expected at least two sizes of at least 1 that add up to 4, the extent of 'j'}}
func.func @main(%x: memref<4x4xf32>, %y: memref<4x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 4 {
      %0 = affine.load %x[%i, %j] : memref<4x4xf32>
      affine.store %0, %y[%j, %i] : memref<4x4xf32>
    } {morph.iter = "j"}
  } {morph.iter = "i", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': running the parts in turn would reverse the flow dependence from store %arg0[i + 1, j] to load %arg0[i, j + 1], carried by 'i' at distance (i=1, j=-1)}}
func.func @main(%x: memref<5x9xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %0 = affine.load %x[%i, %j + 1] : memref<5x9xf32>
      affine.store %0, %x[%i + 1, %j] : memref<5x9xf32>
    } {morph.iter = "j"}
  } {morph.iter = "i", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': its parameter 'w' is read elsewhere as well (by 'b'); it cannot be cut along 'j'}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %w: memref<4x8xf32> {morph.param = "w"},
                %y: memref<4xf32> {morph.output = 0 : i64}, %z: memref<4x8xf32> {morph.output = 1 : i64}) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %0 = affine.load %x[%j] : memref<8xf32>
      %1 = affine.load %w[%i, %j] : memref<4x8xf32>
      %2 = affine.load %y[%i] : memref<4xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%i] : memref<4xf32>
    } {morph.iter = "j"}
  } {morph.iter = "i", morph.layer = "a", morph.role = "main"}
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %0 = affine.load %w[%i, %j] : memref<4x8xf32>
      affine.store %0, %z[%i, %j] : memref<4x8xf32>
    } {morph.iter = "j"}
  } {morph.iter = "i", morph.layer = "b", morph.role = "main"}
  return
}
