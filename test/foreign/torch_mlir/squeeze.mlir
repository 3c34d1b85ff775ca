// pipeline: morph-promote{layer=generic.5}
// expect: -0.0495694 0.0610972 0.0887638 0.0887638 -0.114125 0.245369 0.0610972 0.0610972 -0.0108361 -0.0212111 0.303469 -0.127036 -0.0262257 0.0747 0.0887638 -0.114125 -0.168044 0.0945812 0.0832715 -0.216186 -0.224193 0.347498 -0.0704605 -0.222491 -0.157635 0.0505434 0.0196168 0.0297255 -0.16294 0.509638 -0.226995 -0.224193 -0.104967 0.215316 0.153413 0.0706507 0.183692 0.226157 0.173449 0.133975 0.0706507 0.531189 0.0879956 -0.0403718 0.63638 -0.109378 0.393625 0.0968924 -0.119264 0.385856 -0.130226 -0.116696 0.153904 0.0122772 0.038335 0.153904 0 0.227066 -0.143318 -0.0538695 0.0591938 0.038335 -0.121707 0.112249
// nest: depthwise_conv_2d_nchw_chw.0#init.0 | n=1 c=4 h=6 w=6 | store %alloc[n, c, h, w]
// nest: depthwise_conv_2d_nchw_chw.0#pad | n=1 c=4 h=4 w=4 | load %arg0[n, c, h, w]; store %alloc[n, c, h + 1, w + 1]
// nest: depthwise_conv_2d_nchw_chw.0#init.1 | n=1 c=4 h=4 w=4 | load %3[c]; store %alloc_4[n, c, h, w]
// nest: depthwise_conv_2d_nchw_chw.0 | n=1 c=4 oh=4 ow=4 kh=3 kw=3 | load %alloc[n, c, oh + kh, ow + kw]; load %2[c, 0, kh, kw]; load %alloc_4[n, c, oh, ow]; store %alloc_4[n, c, oh, ow]
// nest: generic.0 | n=1 c=4 h=4 w=4 | load %alloc_4[n, c, h, w]; store %alloc_5[n, c, h, w]
// nest: generic.1 | n=1 c=4 h=4 w=4 | load %alloc_5[n, c, h, w]; store %alloc_6[n, c, h, w]
// nest: generic.2 | n=1 c=4 h=4 w=4 | load %alloc_6[n, c, h, w]; store %alloc_7[n, c, h, w]
// nest: generic.3 | n=1 c=4 h=4 w=4 | load %alloc_4[n, c, h, w]; load %alloc_7[n, c, h, w]; store %alloc_8[n, c, h, w]
// nest: generic.4 | n=1 c=4 h=4 w=4 | load %alloc_8[n, c, h, w]; store %alloc_9[n, c, h, w]
// nest: generic.5#init | n=1 c=4 | store %alloc_10[n, c]
// nest: generic.5 | n=1 c=4 h=4 w=4 | load %alloc_9[n, c, h, w]; load %alloc_10[n, c]; store %alloc_10[n, c]
// nest: generic.6 | n=1 c=4 | load %alloc_10[n, c]; store %alloc_11[n, c]
// nest: matmul.0#init | n=1 c=4 | store %alloc_12[n, c]
// nest: matmul.0 | n=1 co=4 ci=4 | load %alloc_11[n, ci]; load %1[co, ci]; load %alloc_12[n, co]; store %alloc_12[n, co]
// nest: generic.7 | n=1 c=4 | load %alloc_12[n, c]; load %0[c]; store %alloc_13[n, c]
// nest: generic.8 | n=1 c=4 | load %alloc_13[n, c]; store %alloc_14[n, c]
// nest: generic.9 | n=1 c=4 h=4 w=4 | load %alloc_9[n, c, h, w]; load %alloc_14[n, c]; store %arg1[n, c, h, w]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1)>
#map2 = affine_map<(d0, d1) -> (d0, d1)>
#map3 = affine_map<(d0, d1) -> (d1)>
#map4 = affine_map<(d0, d1, d2, d3) -> (d0, d1, 0, 0)>
module {
  func.func @main(%arg0: tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 1.000000e+00 : f32
    %cst_1 = arith.constant dense_resource<torch_tensor_4_torch.float32_1> : tensor<4xf32>
    %cst_2 = arith.constant dense_resource<torch_tensor_4_4_torch.float32> : tensor<4x4xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_4_1_3_3_torch.float32> : tensor<4x1x3x3xf32>
    %cst_4 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %cst_5 = arith.constant 3.000000e+00 : f32
    %cst_6 = arith.constant 6.000000e+00 : f32
    %cst_7 = arith.constant 1.600000e+01 : f32
    %padded = tensor.pad %arg0 low[0, 0, 1, 1] high[0, 0, 1, 1] {
    ^bb0(%arg1: index, %arg2: index, %arg3: index, %arg4: index):
      tensor.yield %cst : f32
    } : tensor<1x4x4x4xf32> to tensor<1x4x6x6xf32>
    %0 = tensor.empty() : tensor<1x4x4x4xf32>
    %broadcasted = linalg.broadcast ins(%cst_4 : tensor<4xf32>) outs(%0 : tensor<1x4x4x4xf32>) dimensions = [0, 2, 3] 
    %collapsed = tensor.collapse_shape %cst_3 [[0, 1], [2], [3]] : tensor<4x1x3x3xf32> into tensor<4x3x3xf32>
    %1 = linalg.depthwise_conv_2d_nchw_chw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%padded, %collapsed : tensor<1x4x6x6xf32>, tensor<4x3x3xf32>) outs(%broadcasted : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1 : tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.addf %in, %cst_5 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %3 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%2 : tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.cmpf ult, %in, %cst : f32
      %17 = arith.select %16, %cst, %in : f32
      linalg.yield %17 : f32
    } -> tensor<1x4x4x4xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%3 : tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.cmpf ugt, %in, %cst_6 : f32
      %17 = arith.select %16, %cst_6, %in : f32
      linalg.yield %17 : f32
    } -> tensor<1x4x4x4xf32>
    %5 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1, %4 : tensor<1x4x4x4xf32>, tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_8: f32, %out: f32):
      %16 = arith.mulf %in, %in_8 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %6 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%5 : tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.divf %in, %cst_6 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %7 = tensor.empty() : tensor<1x4xf32>
    %8 = linalg.fill ins(%cst : f32) outs(%7 : tensor<1x4xf32>) -> tensor<1x4xf32>
    %9 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%6 : tensor<1x4x4x4xf32>) outs(%8 : tensor<1x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.addf %in, %out : f32
      linalg.yield %16 : f32
    } -> tensor<1x4xf32>
    %10 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%9 : tensor<1x4xf32>) outs(%7 : tensor<1x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.divf %in, %cst_7 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4xf32>
    %11 = tensor.empty() : tensor<4x4xf32>
    %transposed = linalg.transpose ins(%cst_2 : tensor<4x4xf32>) outs(%11 : tensor<4x4xf32>) permutation = [1, 0] 
    %12 = linalg.matmul ins(%10, %transposed : tensor<1x4xf32>, tensor<4x4xf32>) outs(%8 : tensor<1x4xf32>) -> tensor<1x4xf32>
    %13 = linalg.generic {indexing_maps = [#map2, #map3, #map2], iterator_types = ["parallel", "parallel"]} ins(%12, %cst_1 : tensor<1x4xf32>, tensor<4xf32>) outs(%7 : tensor<1x4xf32>) {
    ^bb0(%in: f32, %in_8: f32, %out: f32):
      %16 = arith.addf %in, %in_8 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4xf32>
    %14 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel"]} ins(%13 : tensor<1x4xf32>) outs(%7 : tensor<1x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.negf %in : f32
      %17 = math.exp %16 : f32
      %18 = arith.addf %17, %cst_0 : f32
      %19 = arith.divf %cst_0, %18 : f32
      linalg.yield %19 : f32
    } -> tensor<1x4xf32>
    %expanded = tensor.expand_shape %14 [[0], [1, 2, 3]] output_shape [1, 4, 1, 1] : tensor<1x4xf32> into tensor<1x4x1x1xf32>
    %15 = linalg.generic {indexing_maps = [#map, #map4, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%6, %expanded : tensor<1x4x4x4xf32>, tensor<1x4x1x1xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_8: f32, %out: f32):
      %16 = arith.mulf %in, %in_8 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    return %15 : tensor<1x4x4x4xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_4_torch.float32_1: "0x04000000000000BF0000C03E000000BE000020BF",
      torch_tensor_4_4_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE",
      torch_tensor_4_1_3_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E",
      torch_tensor_4_torch.float32: "0x040000000000003E0000C0BE0000003F00000000"
    }
  }
#-}
