// pipeline: morph-interchange{layer=for.0 order=co.0,n.0,ci.0,co.1,ci.1,n.1}
// before: func.func(affine-loop-tile{tile-sizes=4,2,3})
// nest: for.0 | n.0=2 co.0=2 ci.0=2 n.1=? co.1=? ci.1=? | load %arg0[n.1, ci.1]; load %arg1[ci.1, co.1]; load %arg2[n.1, co.1]; store %arg2[n.1, co.1]
func.func @gemm(%A: memref<8x6xf32>, %B: memref<6x4xf32>, %C: memref<8x4xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 4 {
      affine.for %k = 0 to 6 {
        %a = affine.load %A[%i, %k] : memref<8x6xf32>
        %b = affine.load %B[%k, %j] : memref<6x4xf32>
        %c = affine.load %C[%i, %j] : memref<8x4xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %C[%i, %j] : memref<8x4xf32>
      }
    }
  }
  return
}
