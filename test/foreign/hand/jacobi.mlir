// pipeline: morph-interchange{layer=for.0 order=c,n}
// nest: for.0 | n=4 c=8 | load %arg0[n - 1, c]; load %arg0[n + 1, c]; load %arg0[n, c - 1]; load %arg0[n, c + 1]; store %arg1[n, c]
func.func @jacobi(%x: memref<6x10xf32>, %y: memref<6x10xf32>) {
  %quarter = arith.constant 0.25 : f32
  affine.for %i = 1 to 5 {
    affine.for %j = 1 to 9 {
      %n = affine.load %x[%i - 1, %j] : memref<6x10xf32>
      %s = affine.load %x[%i + 1, %j] : memref<6x10xf32>
      %w = affine.load %x[%i, %j - 1] : memref<6x10xf32>
      %e = affine.load %x[%i, %j + 1] : memref<6x10xf32>
      %0 = arith.addf %n, %s : f32
      %1 = arith.addf %w, %e : f32
      %2 = arith.addf %0, %1 : f32
      %3 = arith.mulf %2, %quarter : f32
      affine.store %3, %y[%i, %j] : memref<6x10xf32>
    }
  }
  return
}
