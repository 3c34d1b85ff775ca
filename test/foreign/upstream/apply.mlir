// pipeline: morph-split{layer=for.0 iter=c factor=4}
// nest: for.0 | c=12 | load %arg0[c floordiv 4, c mod 4]; store %arg1[c]
#row = affine_map<(d0) -> (d0 floordiv 4)>
#column = affine_map<(d0) -> (d0 mod 4)>
func.func @unfold(%x: memref<3x4xf32>, %y: memref<12xf32>) {
  affine.for %i = 0 to 12 {
    %r = affine.apply #row(%i)
    %c = affine.apply #column(%i)
    %a = affine.load %x[%r, %c] : memref<3x4xf32>
    affine.store %a, %y[%i] : memref<12xf32>
  }
  return
}
