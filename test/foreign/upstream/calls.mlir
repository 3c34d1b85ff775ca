// before: inline,symbol-dce
// pipeline: morph-interchange{layer=matmul.1 order=co,n,ci}
// nest: matmul.0#init | n=4 c=4 | store %alloc[n, c]
// nest: matmul.0 | n=4 co=4 ci=4 | load %arg0[n, ci]; load %arg0[ci, co]; load %alloc[n, co]; store %alloc[n, co]
// nest: matmul.1#init | n=4 c=4 | store %arg1[n, c]
// nest: matmul.1 | n=4 co=4 ci=4 | load %alloc[n, ci]; load %arg0[ci, co]; load %arg1[n, co]; store %arg1[n, co]
func.func private @product(%a: tensor<4x4xf32>, %b: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x4xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<4x4xf32>) -> tensor<4x4xf32>
  %p = linalg.matmul ins(%a, %b : tensor<4x4xf32>, tensor<4x4xf32>) outs(%f : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %p : tensor<4x4xf32>
}
func.func @cube(%a: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %s = call @product(%a, %a) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %c = call @product(%s, %a) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %c : tensor<4x4xf32>
}
