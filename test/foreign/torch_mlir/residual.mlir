// pipeline: morph-split{layer=conv_2d_nchw_fchw.0 iter=ow factor=2},morph-unroll{layer=conv_2d_nchw_fchw.1 iter=kw factor=3}
// expect: 0 0.349434 0 1.38504 0.745873 0 0.808339 0.575147 0 0.0484683 0 0 0.426039 0 1.30791 0.323948 0 0.221964 0 0 0 0 0 0.43049 0 0.407831 0 0 0 0 0 0.360732
// nest: conv_2d_nchw_fchw.0#init.0 | n=1 c=2 h=6 w=6 | store %alloc[n, c, h, w]
// nest: conv_2d_nchw_fchw.0#pad | n=1 c=2 h=4 w=4 | load %arg0[n, c, h, w]; store %alloc[n, c, h + 1, w + 1]
// nest: conv_2d_nchw_fchw.0#init.1 | n=1 c=4 h=4 w=4 | store %alloc_2[n, c, h, w]
// nest: conv_2d_nchw_fchw.0 | n=1 co=4 oh=4 ow=4 ci=2 kh=3 kw=3 | load %alloc[n, ci, oh + kh, ow + kw]; load %6[co, ci, kh, kw]; load %alloc_2[n, co, oh, ow]; store %alloc_2[n, co, oh, ow]
// nest: generic.0 | c=4 | load %4[c]; store %alloc_3[c]
// nest: generic.1 | c=4 | load %alloc_3[c]; store %alloc_4[c]
// nest: generic.2 | c=4 | load %alloc_4[c]; store %alloc_5[c]
// nest: generic.3 | n=1 c=4 h=4 w=4 | load %alloc_2[n, c, h, w]; load %5[c]; store %alloc_6[n, c, h, w]
// nest: generic.4 | n=1 c=4 h=4 w=4 | load %alloc_6[n, c, h, w]; load %alloc_5[c]; store %alloc_7[n, c, h, w]
// nest: generic.5 | n=1 c=4 h=4 w=4 | load %alloc_7[n, c, h, w]; load %3[c]; store %alloc_8[n, c, h, w]
// nest: generic.6 | n=1 c=4 h=4 w=4 | load %alloc_8[n, c, h, w]; load %2[c]; store %alloc_9[n, c, h, w]
// nest: generic.7 | n=1 c=4 h=4 w=4 | load %alloc_9[n, c, h, w]; store %alloc_10[n, c, h, w]
// nest: conv_2d_nchw_fchw.1#init.0 | n=1 c=4 h=6 w=6 | store %alloc_11[n, c, h, w]
// nest: conv_2d_nchw_fchw.1#pad | n=1 c=4 h=4 w=4 | load %alloc_10[n, c, h, w]; store %alloc_11[n, c, h + 1, w + 1]
// nest: conv_2d_nchw_fchw.1#init.1 | n=1 c=2 h=4 w=4 | load %0[c]; store %alloc_12[n, c, h, w]
// nest: conv_2d_nchw_fchw.1 | n=1 co=2 oh=4 ow=4 ci=4 kh=3 kw=3 | load %alloc_11[n, ci, oh + kh, ow + kw]; load %1[co, ci, kh, kw]; load %alloc_12[n, co, oh, ow]; store %alloc_12[n, co, oh, ow]
// nest: generic.8 | n=1 c=2 h=4 w=4 | load %alloc_12[n, c, h, w]; load %arg0[n, c, h, w]; store %alloc_13[n, c, h, w]
// nest: generic.9 | n=1 c=2 h=4 w=4 | load %alloc_13[n, c, h, w]; store %arg1[n, c, h, w]
#map = affine_map<(d0) -> (d0)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map2 = affine_map<(d0, d1, d2, d3) -> (d1, 0, 0)>
module {
  func.func @main(%arg0: tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 1.000000e+00 : f32
    %cst_1 = arith.constant dense_resource<torch_tensor_2_torch.float32> : tensor<2xf32>
    %cst_2 = arith.constant dense_resource<torch_tensor_2_4_3_3_torch.float32> : tensor<2x4x3x3xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_4_torch.float32_3> : tensor<4xf32>
    %cst_4 = arith.constant dense_resource<torch_tensor_4_torch.float32_2> : tensor<4xf32>
    %cst_5 = arith.constant 1.000000e-05 : f64
    %cst_6 = arith.constant dense_resource<torch_tensor_4_torch.float32_1> : tensor<4xf32>
    %cst_7 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %cst_8 = arith.constant dense_resource<torch_tensor_4_2_3_3_torch.float32> : tensor<4x2x3x3xf32>
    %padded = tensor.pad %arg0 low[0, 0, 1, 1] high[0, 0, 1, 1] {
    ^bb0(%arg1: index, %arg2: index, %arg3: index, %arg4: index):
      tensor.yield %cst : f32
    } : tensor<1x2x4x4xf32> to tensor<1x2x6x6xf32>
    %0 = tensor.empty() : tensor<1x4x4x4xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
    %2 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%padded, %cst_8 : tensor<1x2x6x6xf32>, tensor<4x2x3x3xf32>) outs(%1 : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
    %3 = tensor.empty() : tensor<4xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%cst_6 : tensor<4xf32>) outs(%3 : tensor<4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.truncf %cst_5 : f64 to f32
      %17 = arith.addf %in, %16 : f32
      linalg.yield %17 : f32
    } -> tensor<4xf32>
    %5 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%4 : tensor<4xf32>) outs(%3 : tensor<4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = math.sqrt %in : f32
      linalg.yield %16 : f32
    } -> tensor<4xf32>
    %6 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]} ins(%5 : tensor<4xf32>) outs(%3 : tensor<4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.cmpf one, %in, %cst : f32
      cf.assert %16, "unimplemented: tensor with zero element"
      %17 = arith.divf %cst_0, %in : f32
      linalg.yield %17 : f32
    } -> tensor<4xf32>
    %expanded = tensor.expand_shape %cst_7 [[0, 1, 2]] output_shape [4, 1, 1] : tensor<4xf32> into tensor<4x1x1xf32>
    %expanded_9 = tensor.expand_shape %6 [[0, 1, 2]] output_shape [4, 1, 1] : tensor<4xf32> into tensor<4x1x1xf32>
    %7 = linalg.generic {indexing_maps = [#map1, #map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%2, %expanded : tensor<1x4x4x4xf32>, tensor<4x1x1xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_13: f32, %out: f32):
      %16 = arith.subf %in, %in_13 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %8 = linalg.generic {indexing_maps = [#map1, #map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%7, %expanded_9 : tensor<1x4x4x4xf32>, tensor<4x1x1xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_13: f32, %out: f32):
      %16 = arith.mulf %in, %in_13 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %expanded_10 = tensor.expand_shape %cst_4 [[0, 1, 2]] output_shape [4, 1, 1] : tensor<4xf32> into tensor<4x1x1xf32>
    %9 = linalg.generic {indexing_maps = [#map1, #map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%8, %expanded_10 : tensor<1x4x4x4xf32>, tensor<4x1x1xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_13: f32, %out: f32):
      %16 = arith.mulf %in, %in_13 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %expanded_11 = tensor.expand_shape %cst_3 [[0, 1, 2]] output_shape [4, 1, 1] : tensor<4xf32> into tensor<4x1x1xf32>
    %10 = linalg.generic {indexing_maps = [#map1, #map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%9, %expanded_11 : tensor<1x4x4x4xf32>, tensor<4x1x1xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %in_13: f32, %out: f32):
      %16 = arith.addf %in, %in_13 : f32
      linalg.yield %16 : f32
    } -> tensor<1x4x4x4xf32>
    %11 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%10 : tensor<1x4x4x4xf32>) outs(%0 : tensor<1x4x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.cmpf ugt, %in, %cst : f32
      %17 = arith.select %16, %in, %cst : f32
      linalg.yield %17 : f32
    } -> tensor<1x4x4x4xf32>
    %padded_12 = tensor.pad %11 low[0, 0, 1, 1] high[0, 0, 1, 1] {
    ^bb0(%arg1: index, %arg2: index, %arg3: index, %arg4: index):
      tensor.yield %cst : f32
    } : tensor<1x4x4x4xf32> to tensor<1x4x6x6xf32>
    %12 = tensor.empty() : tensor<1x2x4x4xf32>
    %broadcasted = linalg.broadcast ins(%cst_1 : tensor<2xf32>) outs(%12 : tensor<1x2x4x4xf32>) dimensions = [0, 2, 3] 
    %13 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%padded_12, %cst_2 : tensor<1x4x6x6xf32>, tensor<2x4x3x3xf32>) outs(%broadcasted : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
    %14 = linalg.generic {indexing_maps = [#map1, #map1, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%13, %arg0 : tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) outs(%12 : tensor<1x2x4x4xf32>) {
    ^bb0(%in: f32, %in_13: f32, %out: f32):
      %16 = arith.addf %in, %in_13 : f32
      linalg.yield %16 : f32
    } -> tensor<1x2x4x4xf32>
    %15 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%14 : tensor<1x2x4x4xf32>) outs(%12 : tensor<1x2x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %16 = arith.cmpf ugt, %in, %cst : f32
      %17 = arith.select %16, %in, %cst : f32
      linalg.yield %17 : f32
    } -> tensor<1x2x4x4xf32>
    return %15 : tensor<1x2x4x4xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_2_torch.float32: "0x04000000000000BE000020BF",
      torch_tensor_2_4_3_3_torch.float32: "0x04000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE",
      torch_tensor_4_torch.float32_3: "0x040000000000003F00000000000000BF0000C03E",
      torch_tensor_4_torch.float32_2: "0x040000000000003E0000C0BE0000003F00000000",
      torch_tensor_4_torch.float32_1: "0x040000000000603F0000C03E0000203F0000403F",
      torch_tensor_4_torch.float32: "0x040000000000803E000080BE0000203F0000003E",
      torch_tensor_4_2_3_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000"
    }
  }
#-}
