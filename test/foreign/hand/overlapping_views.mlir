// refused: memref.subview
// nest: for.0 | c=7 | load %arg0[c]; store %subview[c]
func.func @shift(%x: memref<8xf32>) {
  %v = memref.subview %x[1] [7] [1] : memref<8xf32> to memref<7xf32, strided<[1], offset: 1>>
  affine.for %i = 0 to 7 {
    %a = affine.load %x[%i] : memref<8xf32>
    affine.store %a, %v[%i] : memref<7xf32, strided<[1], offset: 1>>
  }
  return
}
