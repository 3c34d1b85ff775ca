// pipeline: morph-interchange{layer=for.0 order=c,n}
// refused: layer 'for.0': the order c, n would reverse the flow dependence
// nest: for.0 | n=4 c=5 | load %arg0[n, c]; store %arg0[n + 1, c - 1]
func.func @wavefront(%x: memref<5x6xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 1 to 6 {
      %a = affine.load %x[%i, %j] : memref<5x6xf32>
      %b = arith.addf %a, %a : f32
      affine.store %b, %x[%i + 1, %j - 1] : memref<5x6xf32>
    }
  }
  return
}
