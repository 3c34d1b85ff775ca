// pipeline: morph-interchange{layer=generic.1 order=w,n,c}
// expect: -0.0833333 0.333333 -0.166667 -0.458333 0.416667 -0.0833333
// nest: generic.0 | n=2 c=3 w=3 | load %arg0[n, c]; store %alloc[n, c, w]
// nest: generic.1#init | n=2 c=3 | store %alloc_1[n, c]
// nest: generic.1 | n=2 w=3 c=3 | load %alloc[n, c, w]; load %alloc_1[n, w]; store %alloc_1[n, w]
// nest: generic.2 | n=2 c=3 | load %alloc_1[n, c]; store %arg1[n, c]
#map = affine_map<(d0, d1, d2) -> (d0, d1)>
#map1 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d2)>
#map3 = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<2x3xi64>) -> tensor<2x3xf32> {
    %c5 = arith.constant 5 : index
    %c0_i64 = arith.constant 0 : i64
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant dense_resource<torch_tensor_5_3_torch.float32> : tensor<5x3xf32>
    %cst_1 = arith.constant 3.000000e+00 : f32
    %0 = tensor.empty() : tensor<2x3x3xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel"]} ins(%arg0 : tensor<2x3xi64>) outs(%0 : tensor<2x3x3xf32>) {
    ^bb0(%in: i64, %out: f32):
      %6 = arith.index_cast %in : i64 to index
      %7 = linalg.index 2 : index
      %8 = arith.cmpi slt, %6, %c5 : index
      cf.assert %8, "index must be smaller than dim size"
      %9 = arith.cmpi sge, %in, %c0_i64 : i64
      cf.assert %9, "index must be larger or equal to 0"
      %extracted = tensor.extract %cst_0[%6, %7] : tensor<5x3xf32>
      linalg.yield %extracted : f32
    } -> tensor<2x3x3xf32>
    %2 = tensor.empty() : tensor<2x3xf32>
    %3 = linalg.fill ins(%cst : f32) outs(%2 : tensor<2x3xf32>) -> tensor<2x3xf32>
    %4 = linalg.generic {indexing_maps = [#map1, #map2], iterator_types = ["parallel", "reduction", "parallel"]} ins(%1 : tensor<2x3x3xf32>) outs(%3 : tensor<2x3xf32>) {
    ^bb0(%in: f32, %out: f32):
      %6 = arith.addf %in, %out : f32
      linalg.yield %6 : f32
    } -> tensor<2x3xf32>
    %5 = linalg.generic {indexing_maps = [#map3, #map3], iterator_types = ["parallel", "parallel"]} ins(%4 : tensor<2x3xf32>) outs(%2 : tensor<2x3xf32>) {
    ^bb0(%in: f32, %out: f32):
      %6 = arith.divf %in, %cst_1 : f32
      linalg.yield %6 : f32
    } -> tensor<2x3xf32>
    return %5 : tensor<2x3xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_5_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE"
    }
  }
#-}
