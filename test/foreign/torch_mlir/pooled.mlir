// pipeline: morph-interchange{layer=pooling_nchw_max.0 order=n,c,kh,kw,oh,ow}
// expect: 1.07031 0.695312
// nest: conv_2d_nchw_fchw.0#init | n=1 c=3 h=4 w=4 | load %3[c]; store %alloc[n, c, h, w]
// nest: conv_2d_nchw_fchw.0 | n=1 co=3 oh=4 ow=4 ci=1 kh=3 kw=3 | load %arg0[n, ci, oh * 2 + kh, ow * 2 + kw]; load %2[co, ci, kh, kw]; load %alloc[n, co, oh, ow]; store %alloc[n, co, oh, ow]
// nest: generic.0 | n=1 c=3 h=4 w=4 | load %alloc[n, c, h, w]; store %alloc_1[n, c, h, w]
// nest: pooling_nchw_max.0#init | n=1 c=3 h=2 w=2 | store %alloc_2[n, c, h, w]
// nest: pooling_nchw_max.0 | n=1 c=3 oh=2 ow=2 kh=2 kw=2 | load %alloc_1[n, c, oh * 2 + kh, ow * 2 + kw]; load %alloc_2[n, c, oh, ow]; store %alloc_2[n, c, oh, ow]
// nest: matmul.0#init | n=1 c=2 | store %alloc_3[n, c]
// nest: matmul.0 | n=1 co=2 ci=12 | load %alloc_2[n, ci floordiv 4, (ci floordiv 2) mod 2, ci mod 2]; load %1[co, ci]; load %alloc_3[n, co]; store %alloc_3[n, co]
// nest: generic.1 | n=1 c=2 | load %alloc_3[n, c]; load %0[c]; store %arg1[n, c]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map1 = affine_map<(d0, d1) -> (d0, d1)>
#map2 = affine_map<(d0, d1) -> (d1)>
module {
  func.func @main(%arg0: tensor<1x1x9x9xf32>) -> tensor<1x2xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 0xFF800000 : f32
    %cst_1 = arith.constant dense_resource<torch_tensor_2_torch.float32> : tensor<2xf32>
    %cst_2 = arith.constant dense_resource<torch_tensor_2_12_torch.float32> : tensor<2x12xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_3_1_3_3_torch.float32> : tensor<3x1x3x3xf32>
    %cst_4 = arith.constant dense_resource<torch_tensor_3_torch.float32> : tensor<3xf32>
    %0 = tensor.empty() : tensor<1x3x4x4xf32>
    %broadcasted = linalg.broadcast ins(%cst_4 : tensor<3xf32>) outs(%0 : tensor<1x3x4x4xf32>) dimensions = [0, 2, 3] 
    %1 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<2> : vector<2xi64>} ins(%arg0, %cst_3 : tensor<1x1x9x9xf32>, tensor<3x1x3x3xf32>) outs(%broadcasted : tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1 : tensor<1x3x4x4xf32>) outs(%0 : tensor<1x3x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %12 = arith.cmpf ugt, %in, %cst : f32
      %13 = arith.select %12, %in, %cst : f32
      linalg.yield %13 : f32
    } -> tensor<1x3x4x4xf32>
    %3 = tensor.empty() : tensor<1x3x2x2xf32>
    %4 = linalg.fill ins(%cst_0 : f32) outs(%3 : tensor<1x3x2x2xf32>) -> tensor<1x3x2x2xf32>
    %5 = tensor.empty() : tensor<2x2xf32>
    %6 = linalg.pooling_nchw_max {dilations = dense<1> : vector<2xi64>, strides = dense<2> : vector<2xi64>} ins(%2, %5 : tensor<1x3x4x4xf32>, tensor<2x2xf32>) outs(%4 : tensor<1x3x2x2xf32>) -> tensor<1x3x2x2xf32>
    %collapsed = tensor.collapse_shape %6 [[0], [1, 2, 3]] : tensor<1x3x2x2xf32> into tensor<1x12xf32>
    %7 = tensor.empty() : tensor<12x2xf32>
    %transposed = linalg.transpose ins(%cst_2 : tensor<2x12xf32>) outs(%7 : tensor<12x2xf32>) permutation = [1, 0] 
    %8 = tensor.empty() : tensor<1x2xf32>
    %9 = linalg.fill ins(%cst : f32) outs(%8 : tensor<1x2xf32>) -> tensor<1x2xf32>
    %10 = linalg.matmul ins(%collapsed, %transposed : tensor<1x12xf32>, tensor<12x2xf32>) outs(%9 : tensor<1x2xf32>) -> tensor<1x2xf32>
    %11 = linalg.generic {indexing_maps = [#map1, #map2, #map1], iterator_types = ["parallel", "parallel"]} ins(%10, %cst_1 : tensor<1x2xf32>, tensor<2xf32>) outs(%8 : tensor<1x2xf32>) {
    ^bb0(%in: f32, %in_5: f32, %out: f32):
      %12 = arith.addf %in, %in_5 : f32
      linalg.yield %12 : f32
    } -> tensor<1x2xf32>
    return %11 : tensor<1x2xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_2_torch.float32: "0x04000000000000BF0000C03E",
      torch_tensor_2_12_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000",
      torch_tensor_3_1_3_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F",
      torch_tensor_3_torch.float32: "0x040000000000003E0000C0BE0000003F"
    }
  }
#-}
