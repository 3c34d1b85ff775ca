// pipeline: morph-split{layer=dot.0 iter=ci factor=4}
// nest: dot.0 | ci=8 | load %arg0[ci]; load %arg1[ci]; load %alloc[]; store %alloc[]
func.func @dot(%x: tensor<8xf32>, %y: tensor<8xf32>, %start: f32) -> (tensor<f32>, f32) {
  %e = tensor.empty() : tensor<f32>
  %f = linalg.fill ins(%start : f32) outs(%e : tensor<f32>) -> tensor<f32>
  %d = linalg.dot ins(%x, %y : tensor<8xf32>, tensor<8xf32>) outs(%f : tensor<f32>) -> tensor<f32>
  %v = tensor.extract %d[] : tensor<f32>
  %s = arith.mulf %v, %v : f32
  return %d, %s : tensor<f32>, f32
}
