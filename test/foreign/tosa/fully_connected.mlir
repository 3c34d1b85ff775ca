// pipeline: morph-split{layer=matmul.0 iter=co factor=2},morph-vectorize{layer=generic.1 iter=c width=4}
// nest: generic.0 | n=2 c=4 | load %arg2[c]; store %alloc[n, c]
// nest: matmul.0#init | n=2 c=4 | load %alloc[n, c]; store %alloc_0[n, c]
// nest: matmul.0 | n=2 co=4 ci=6 | load %arg0[n, ci]; load %arg1[co, ci]; load %alloc_0[n, co]; store %alloc_0[n, co]
// nest: generic.1 | n=2 c=4 | load %alloc_0[n, c]; store %arg3[n, c]
#map = affine_map<(d0, d1) -> (d1)>
#map1 = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<2x6xf32>, %arg1: tensor<4x6xf32>, %arg2: tensor<4xf32>) -> tensor<2x4xf32> {
    %cst = arith.constant 1.000000e+00 : f32
    %0 = tensor.empty() : tensor<6x4xf32>
    %transposed = linalg.transpose ins(%arg1 : tensor<4x6xf32>) outs(%0 : tensor<6x4xf32>) permutation = [1, 0] 
    %1 = tensor.empty() : tensor<2x4xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel"]} ins(%arg2 : tensor<4xf32>) outs(%1 : tensor<2x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<2x4xf32>
    %3 = linalg.matmul ins(%arg0, %transposed : tensor<2x6xf32>, tensor<6x4xf32>) outs(%2 : tensor<2x4xf32>) -> tensor<2x4xf32>
    %4 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel"]} ins(%3 : tensor<2x4xf32>) outs(%1 : tensor<2x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %5 = arith.negf %in : f32
      %6 = math.exp %5 : f32
      %7 = arith.addf %6, %cst : f32
      %8 = arith.divf %cst, %7 : f32
      linalg.yield %8 : f32
    } -> tensor<2x4xf32>
    return %4 : tensor<2x4xf32>
  }
}

