// pipeline: morph-interchange{layer=for.0 order=c,n}
// nest: for.0 | n=4 c=6 | load %arg0[n - 1, c]; load %arg0[n + 1, c]; store %arg1[n, c]
func.func @every_other(%x: memref<10x6xf32>, %y: memref<10x6xf32>) {
  affine.for %i = 1 to 9 step 2 {
    affine.for %j = 0 to 6 {
      %a = affine.load %x[%i - 1, %j] : memref<10x6xf32>
      %b = affine.load %x[%i + 1, %j] : memref<10x6xf32>
      %c = arith.subf %a, %b : f32
      affine.store %c, %y[%i, %j] : memref<10x6xf32>
    }
  }
  return
}
