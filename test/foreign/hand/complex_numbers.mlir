// refused: memref<4xcomplex<f32>>
// nest: for.0 | c=4 | load %arg0[c]; store %arg1[c]
func.func @copy(%x: memref<4xcomplex<f32>>, %y: memref<4xcomplex<f32>>) {
  affine.for %i = 0 to 4 {
    %a = affine.load %x[%i] : memref<4xcomplex<f32>>
    affine.store %a, %y[%i] : memref<4xcomplex<f32>>
  }
  return
}
