// pipeline: morph-vectorize{layer=map.0 iter=c width=4}
// nest: map.0 | n=3 c=8 | load %arg0[n, c]; load %arg1[c]; store %alloc[n, c]
// nest: abs.0 | n=3 c=8 | load %alloc[n, c]; store %alloc_0[n, c]
// nest: return.0#copy | n=8 c=3 | load %alloc_0[c, n]; store %arg2[n, c]
func.func @steps(%x: tensor<3x8xf32>, %v: tensor<8xf32>) -> tensor<8x3xf32> {
  %e = tensor.empty() : tensor<3x8xf32>
  %t = tensor.empty() : tensor<8x3xf32>
  %b = linalg.broadcast ins(%v : tensor<8xf32>) outs(%e : tensor<3x8xf32>) dimensions = [0]
  %m = linalg.map { arith.mulf } ins(%x, %b : tensor<3x8xf32>, tensor<3x8xf32>) outs(%e : tensor<3x8xf32>)
  %a = linalg.abs ins(%m : tensor<3x8xf32>) outs(%e : tensor<3x8xf32>) -> tensor<3x8xf32>
  %r = linalg.transpose ins(%a : tensor<3x8xf32>) outs(%t : tensor<8x3xf32>) permutation = [1, 0]
  return %r : tensor<8x3xf32>
}
