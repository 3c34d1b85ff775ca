// refused: layer 'for.0': the bounds of 'co' depend on 'n', which must stay outside it
// pipeline: morph-interchange{layer=for.0 order=co,ci,n}
// nest: for.0 | n=6 co=? ci=4 | load %arg0[n, ci]; load %arg0[co, ci]; load %arg1[n, co]; store %arg1[n, co]
#upper = affine_map<(d0) -> (d0 + 1)>
func.func @syrk(%A: memref<6x4xf32>, %C: memref<6x6xf32>) {
  affine.for %i = 0 to 6 {
    affine.for %j = 0 to #upper(%i) {
      affine.for %k = 0 to 4 {
        %a = affine.load %A[%i, %k] : memref<6x4xf32>
        %b = affine.load %A[%j, %k] : memref<6x4xf32>
        %c = affine.load %C[%i, %j] : memref<6x6xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %C[%i, %j] : memref<6x6xf32>
      }
    }
  }
  return
}
