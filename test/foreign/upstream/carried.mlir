// pipeline: morph-split{layer=for.0 iter=n factor=2}
// nest: for.0 | n=4 c=6 | load %arg0[n, c]; store %arg1[n]
func.func @sums(%x: memref<4x6xf32>, %y: memref<4xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %i = 0 to 4 {
    %sum = affine.for %j = 0 to 6 iter_args(%s = %zero) -> f32 {
      %a = affine.load %x[%i, %j] : memref<4x6xf32>
      %t = arith.addf %s, %a : f32
      affine.yield %t : f32
    }
    affine.store %sum, %y[%i] : memref<4xf32>
  }
  return
}
