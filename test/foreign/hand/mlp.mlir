// parameters: 1,2
// pipeline: morph-bottleneck{layer=hidden iter=co factor=2},morph-interchange{layer=output order=ci,n,co}
// nest: hidden#init | n=2 c=8 | store %alloc[n, c]
// nest: hidden | n=2 co=8 ci=6 | load %arg0[n, ci]; load %arg1[ci, co]; load %alloc[n, co]; store %alloc[n, co]
// nest: tanh.0 | n=2 c=8 | load %alloc[n, c]; store %alloc_0[n, c]
// nest: output#init | n=2 c=3 | store %arg3[n, c]
// nest: output | n=2 co=3 ci=8 | load %alloc_0[n, ci]; load %arg2[ci, co]; load %arg3[n, co]; store %arg3[n, co]
func.func @net(%x: tensor<2x6xf32>, %w: tensor<6x8xf32>, %v: tensor<8x3xf32>) -> tensor<2x3xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<2x8xf32>) -> tensor<2x8xf32>
  %a = linalg.matmul {morph.layer = "hidden"}
      ins(%x, %w : tensor<2x6xf32>, tensor<6x8xf32>) outs(%f : tensor<2x8xf32>) -> tensor<2x8xf32>
  %r = linalg.tanh ins(%a : tensor<2x8xf32>) outs(%e : tensor<2x8xf32>) -> tensor<2x8xf32>
  %e2 = tensor.empty() : tensor<2x3xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<2x3xf32>) -> tensor<2x3xf32>
  %b = linalg.matmul {morph.layer = "output"}
      ins(%r, %v : tensor<2x8xf32>, tensor<8x3xf32>) outs(%f2 : tensor<2x3xf32>) -> tensor<2x3xf32>
  return %b : tensor<2x3xf32>
}
