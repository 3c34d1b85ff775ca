// pipeline: morph-unroll{layer=generic.8 iter=c factor=2}
// expect: -0.227766 0.371229 -0.11194 -0.153447 -0.243969 1.01844 -0.175212 0.136651 -0.179497 0.00485526 0.0722857 -0.242868
// nest: generic.0 | n=3 c=4 | load %arg0[n, c]; store %alloc[n, c]
// nest: generic.1#init | n=3 c=1 | store %alloc_5[n, c]
// nest: generic.1 | n=3 c=4 | load %alloc[n, c]; load %alloc_5[n, 0]; store %alloc_5[n, 0]
// nest: generic.2 | n=3 c=1 | load %alloc_5[n, c]; store %alloc_6[n, c]
// nest: generic.3 | n=3 c=4 | load %alloc[n, c]; load %alloc_6[n, 0]; store %alloc_7[n, c]
// nest: generic.4 | n=3 c=4 | load %alloc_7[n, c]; store %alloc_8[n, c]
// nest: generic.5#init | n=3 c=1 | store %alloc_9[n, c]
// nest: generic.5 | n=3 c=4 | load %alloc_8[n, c]; load %alloc_9[n, 0]; store %alloc_9[n, 0]
// nest: generic.6 | n=3 c=1 | load %alloc_9[n, c]; store %alloc_10[n, c]
// nest: generic.7 | n=3 c=1 | load %alloc_10[n, c]; store %alloc_11[n, c]
// nest: generic.8#init | n=3 c=1 | store %alloc_12[n, c]
// nest: generic.8 | n=3 c=4 | load %arg0[n, c]; load %alloc_12[n, 0]; store %alloc_12[n, 0]
// nest: generic.9 | n=3 c=1 | load %alloc_12[n, c]; store %alloc_13[n, c]
// nest: generic.10 | n=3 c=1 | load %alloc_11[n, c]; store %alloc_14[n, c]
// nest: generic.11 | n=3 c=1 | load %alloc_14[n, c]; store %alloc_15[n, c]
// nest: generic.12 | n=3 c=4 | load %arg0[n, c]; load %alloc_13[n, 0]; store %alloc_16[n, c]
// nest: generic.13 | n=3 c=4 | load %alloc_16[n, c]; load %alloc_15[n, 0]; store %alloc_17[n, c]
// nest: generic.14 | n=3 c=4 | load %alloc_17[n, c]; load %3[c]; store %alloc_18[n, c]
// nest: generic.15 | n=3 c=4 | load %alloc_18[n, c]; load %2[c]; store %alloc_19[n, c]
// nest: matmul.0#init | n=3 c=4 | store %alloc_20[n, c]
// nest: matmul.0 | n=3 co=4 ci=4 | load %alloc_19[n, ci]; load %1[co, ci]; load %alloc_20[n, co]; store %alloc_20[n, co]
// nest: generic.16 | n=3 c=4 | load %alloc_20[n, c]; load %0[c]; store %alloc_21[n, c]
// nest: generic.17 | n=3 c=4 | load %alloc_21[n, c]; store %alloc_22[n, c]
// nest: generic.18 | n=3 c=4 | load %alloc_21[n, c]; load %alloc_22[n, c]; store %arg1[n, c]
#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d0, 0)>
#map2 = affine_map<(d0, d1) -> (d1)>
module {
  func.func @main(%arg0: tensor<3x4xf32>) -> tensor<3x4xf32> {
    %cst = arith.constant 0.000000e+00 : f64
    %cst_0 = arith.constant 0.000000e+00 : f32
    %cst_1 = arith.constant 1.000000e+00 : f32
    %cst_2 = arith.constant dense_resource<torch_tensor_4_torch.float32_2> : tensor<4xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_4_4_torch.float32> : tensor<4x4xf32>
    %cst_4 = arith.constant dense_resource<torch_tensor_4_torch.float32_1> : tensor<4xf32>
    %cst_5 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %cst_6 = arith.constant 1.000000e-05 : f64
    %cst_7 = arith.constant 4.000000e+00 : f64
    %cst_8 = arith.constant 4.000000e+00 : f32
    %0 = tensor.empty() : tensor<3x4xf64>
    %1 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0 : tensor<3x4xf32>) outs(%0 : tensor<3x4xf64>) {
    ^bb0(%in: f32, %out: f64):
      %28 = arith.extf %in : f32 to f64
      linalg.yield %28 : f64
    } -> tensor<3x4xf64>
    %2 = tensor.empty() : tensor<3x1xf64>
    %3 = linalg.fill ins(%cst : f64) outs(%2 : tensor<3x1xf64>) -> tensor<3x1xf64>
    %4 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%1 : tensor<3x4xf64>) outs(%3 : tensor<3x1xf64>) {
    ^bb0(%in: f64, %out: f64):
      %28 = arith.addf %in, %out : f64
      linalg.yield %28 : f64
    } -> tensor<3x1xf64>
    %5 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%4 : tensor<3x1xf64>) outs(%2 : tensor<3x1xf64>) {
    ^bb0(%in: f64, %out: f64):
      %28 = arith.divf %in, %cst_7 : f64
      linalg.yield %28 : f64
    } -> tensor<3x1xf64>
    %6 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%1, %5 : tensor<3x4xf64>, tensor<3x1xf64>) outs(%0 : tensor<3x4xf64>) {
    ^bb0(%in: f64, %in_9: f64, %out: f64):
      %28 = arith.subf %in, %in_9 : f64
      linalg.yield %28 : f64
    } -> tensor<3x4xf64>
    %7 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%6, %6 : tensor<3x4xf64>, tensor<3x4xf64>) outs(%0 : tensor<3x4xf64>) {
    ^bb0(%in: f64, %in_9: f64, %out: f64):
      %28 = arith.mulf %in, %in_9 : f64
      linalg.yield %28 : f64
    } -> tensor<3x4xf64>
    %8 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%7 : tensor<3x4xf64>) outs(%3 : tensor<3x1xf64>) {
    ^bb0(%in: f64, %out: f64):
      %28 = arith.addf %in, %out : f64
      linalg.yield %28 : f64
    } -> tensor<3x1xf64>
    %9 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%8 : tensor<3x1xf64>) outs(%2 : tensor<3x1xf64>) {
    ^bb0(%in: f64, %out: f64):
      %28 = arith.divf %in, %cst_7 : f64
      linalg.yield %28 : f64
    } -> tensor<3x1xf64>
    %10 = tensor.empty() : tensor<3x1xf32>
    %11 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%9 : tensor<3x1xf64>) outs(%10 : tensor<3x1xf32>) {
    ^bb0(%in: f64, %out: f32):
      %28 = arith.truncf %in : f64 to f32
      linalg.yield %28 : f32
    } -> tensor<3x1xf32>
    %12 = linalg.fill ins(%cst_0 : f32) outs(%10 : tensor<3x1xf32>) -> tensor<3x1xf32>
    %13 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<3x4xf32>) outs(%12 : tensor<3x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %28 = arith.addf %in, %out : f32
      linalg.yield %28 : f32
    } -> tensor<3x1xf32>
    %14 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%13 : tensor<3x1xf32>) outs(%10 : tensor<3x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %28 = arith.divf %in, %cst_8 : f32
      linalg.yield %28 : f32
    } -> tensor<3x1xf32>
    %15 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%11 : tensor<3x1xf32>) outs(%10 : tensor<3x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %28 = arith.truncf %cst_6 : f64 to f32
      %29 = arith.addf %in, %28 : f32
      linalg.yield %29 : f32
    } -> tensor<3x1xf32>
    %16 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%15 : tensor<3x1xf32>) outs(%10 : tensor<3x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %28 = math.rsqrt %in : f32
      linalg.yield %28 : f32
    } -> tensor<3x1xf32>
    %17 = tensor.empty() : tensor<3x4xf32>
    %18 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %14 : tensor<3x4xf32>, tensor<3x1xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.subf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    %19 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%18, %16 : tensor<3x4xf32>, tensor<3x1xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.mulf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    %20 = linalg.generic {indexing_maps = [#map, #map2, #map], iterator_types = ["parallel", "parallel"]} ins(%19, %cst_5 : tensor<3x4xf32>, tensor<4xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.mulf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    %21 = linalg.generic {indexing_maps = [#map, #map2, #map], iterator_types = ["parallel", "parallel"]} ins(%20, %cst_4 : tensor<3x4xf32>, tensor<4xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.addf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    %22 = tensor.empty() : tensor<4x4xf32>
    %transposed = linalg.transpose ins(%cst_3 : tensor<4x4xf32>) outs(%22 : tensor<4x4xf32>) permutation = [1, 0] 
    %23 = linalg.fill ins(%cst_0 : f32) outs(%17 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %24 = linalg.matmul ins(%21, %transposed : tensor<3x4xf32>, tensor<4x4xf32>) outs(%23 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %25 = linalg.generic {indexing_maps = [#map, #map2, #map], iterator_types = ["parallel", "parallel"]} ins(%24, %cst_2 : tensor<3x4xf32>, tensor<4xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.addf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    %26 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%25 : tensor<3x4xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %28 = arith.negf %in : f32
      %29 = math.exp %28 : f32
      %30 = arith.addf %29, %cst_1 : f32
      %31 = arith.divf %cst_1, %30 : f32
      linalg.yield %31 : f32
    } -> tensor<3x4xf32>
    %27 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%25, %26 : tensor<3x4xf32>, tensor<3x4xf32>) outs(%17 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_9: f32, %out: f32):
      %28 = arith.mulf %in, %in_9 : f32
      linalg.yield %28 : f32
    } -> tensor<3x4xf32>
    return %27 : tensor<3x4xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_4_torch.float32_2: "0x04000000000000BF0000C03E000000BE000020BF",
      torch_tensor_4_4_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE",
      torch_tensor_4_torch.float32_1: "0x040000000000003E0000C0BE0000003F00000000",
      torch_tensor_4_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE"
    }
  }
#-}
