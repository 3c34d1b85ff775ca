// pipeline: morph-unroll-jam{layer=conv_1d_ncw_fcw.0 iter=co factor=2}
// expect: 0.139705 0.259549 -0.344663 -0.316835 0.330821 0.424464 0.344663 -0.449741
// nest: conv_1d_ncw_fcw.0#init | n=1 c=4 w=5 | load %1[c]; store %alloc[n, c, w]
// nest: conv_1d_ncw_fcw.0 | n=1 co=4 ow=5 ci=2 kw=3 | load %arg0[n, ci, ow + kw * 2]; load %0[co, ci, kw]; load %alloc[n, co, ow]; store %alloc[n, co, ow]
// nest: pooling_nchw_sum.0#init | n=1 c=4 h=1 w=2 | store %alloc_1[n, c, h, w]
// nest: pooling_nchw_sum.0 | n=1 c=4 oh=1 ow=2 kh=1 kw=2 | load %alloc[n, c, ow * 2 + kw]; load %alloc_1[n, c, oh, ow]; store %alloc_1[n, c, oh, ow]
// nest: generic.0 | n=1 c=4 h=1 w=2 | load %alloc_1[n, c, h, w]; store %alloc_2[n, c, h, w]
// nest: generic.1 | n=1 c=4 w=2 | load %alloc_2[n, c, 0, w]; store %arg1[n, c, w]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map1 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
module {
  func.func @main(%arg0: tensor<1x2x9xf32>) -> tensor<1x4x2xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant dense_resource<torch_tensor_4_2_3_torch.float32> : tensor<4x2x3xf32>
    %cst_1 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %cst_2 = arith.constant 2.000000e+00 : f32
    %0 = tensor.empty() : tensor<1x4x5xf32>
    %broadcasted = linalg.broadcast ins(%cst_1 : tensor<4xf32>) outs(%0 : tensor<1x4x5xf32>) dimensions = [0, 2] 
    %1 = linalg.conv_1d_ncw_fcw {dilations = dense<2> : vector<1xi64>, strides = dense<1> : vector<1xi64>} ins(%arg0, %cst_0 : tensor<1x2x9xf32>, tensor<4x2x3xf32>) outs(%broadcasted : tensor<1x4x5xf32>) -> tensor<1x4x5xf32>
    %expanded = tensor.expand_shape %1 [[0], [1], [2, 3]] output_shape [1, 4, 1, 5] : tensor<1x4x5xf32> into tensor<1x4x1x5xf32>
    %2 = tensor.empty() : tensor<1x4x1x2xf32>
    %3 = linalg.fill ins(%cst : f32) outs(%2 : tensor<1x4x1x2xf32>) -> tensor<1x4x1x2xf32>
    %4 = tensor.empty() : tensor<1x2xf32>
    %5 = linalg.pooling_nchw_sum {dilations = dense<1> : vector<2xi64>, strides = dense<[1, 2]> : vector<2xi64>} ins(%expanded, %4 : tensor<1x4x1x5xf32>, tensor<1x2xf32>) outs(%3 : tensor<1x4x1x2xf32>) -> tensor<1x4x1x2xf32>
    %6 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%5 : tensor<1x4x1x2xf32>) outs(%2 : tensor<1x4x1x2xf32>) {
    ^bb0(%in: f32, %out: f32):
      %9 = arith.divf %in, %cst_2 : f32
      linalg.yield %9 : f32
    } -> tensor<1x4x1x2xf32>
    %collapsed = tensor.collapse_shape %6 [[0], [1, 2], [3]] : tensor<1x4x1x2xf32> into tensor<1x4x2xf32>
    %7 = tensor.empty() : tensor<1x4x2xf32>
    %8 = linalg.generic {indexing_maps = [#map1, #map1], iterator_types = ["parallel", "parallel", "parallel"]} ins(%collapsed : tensor<1x4x2xf32>) outs(%7 : tensor<1x4x2xf32>) {
    ^bb0(%in: f32, %out: f32):
      %9 = math.tanh %in : f32
      linalg.yield %9 : f32
    } -> tensor<1x4x2xf32>
    return %8 : tensor<1x4x2xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_4_2_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F",
      torch_tensor_4_torch.float32: "0x040000000000003E0000C0BE0000003F00000000"
    }
  }
#-}
