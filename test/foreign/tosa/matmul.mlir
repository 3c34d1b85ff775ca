// pipeline: morph-tile{layer=batch_matmul.0 iters=n,co sizes=2,4}
// nest: batch_matmul.0#init | n=2 c=3 w=5 | store %arg2[n, c, w]
// nest: batch_matmul.0 | b=2 n=3 co=5 ci=4 | load %arg0[b, n, ci]; load %arg1[b, ci, co]; load %arg2[b, n, co]; store %arg2[b, n, co]
module {
  func.func @main(%arg0: tensor<2x3x4xf32>, %arg1: tensor<2x4x5xf32>) -> tensor<2x3x5xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %0 = tensor.empty() : tensor<2x3x5xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
    %2 = linalg.batch_matmul ins(%arg0, %arg1 : tensor<2x3x4xf32>, tensor<2x4x5xf32>) outs(%1 : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
    return %2 : tensor<2x3x5xf32>
  }
}

