// pipeline: morph-interchange{layer=matmul.0 order=ci,n,co},morph-unroll{layer=matmul.0 iter=co factor=2}
// nest: matmul.0 | n=4 co=8 ci=6 | load %arg0[ci, n]; load %arg1[co, ci]; load %arg2[n, co]; store %arg2[n, co]
#a = affine_map<(m, n, k) -> (k, m)>
#b = affine_map<(m, n, k) -> (n, k)>
#c = affine_map<(m, n, k) -> (m, n)>
func.func @matmul_tn(%A: memref<6x4xf32>, %B: memref<8x6xf32>, %C: memref<4x8xf32>) {
  linalg.matmul indexing_maps = [#a, #b, #c] ins(%A, %B : memref<6x4xf32>, memref<8x6xf32>) outs(%C : memref<4x8xf32>)
  return
}
