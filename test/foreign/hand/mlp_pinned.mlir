// parameters: 1
// pipeline: morph-bottleneck{layer=matmul.0 iter=co factor=2}
// refused: layer 'matmul.0', iterator 'co': its dimension is tied to the network's output through layer 'matmul.0'
// nest: matmul.0#init | n=2 c=8 | store %arg2[n, c]
// nest: matmul.0 | n=2 co=8 ci=6 | load %arg0[n, ci]; load %arg1[ci, co]; load %arg2[n, co]; store %arg2[n, co]
func.func @net(%x: tensor<2x6xf32>, %w: tensor<6x8xf32>) -> tensor<2x8xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2x8xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<2x8xf32>) -> tensor<2x8xf32>
  %a = linalg.matmul ins(%x, %w : tensor<2x6xf32>, tensor<6x8xf32>) outs(%f : tensor<2x8xf32>) -> tensor<2x8xf32>
  return %a : tensor<2x8xf32>
}
