// refused: memref<\?x4xf32>: only memrefs of static shape
// nest: for.0 | n=? c=4 | load %arg0[n, c]; store %arg1[n, c]
func.func @copy(%x: memref<?x4xf32>, %y: memref<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?x4xf32>
  affine.for %i = 0 to %n {
    affine.for %j = 0 to 4 {
      %a = affine.load %x[%i, %j] : memref<?x4xf32>
      affine.store %a, %y[%i, %j] : memref<?x4xf32>
    }
  }
  return
}
