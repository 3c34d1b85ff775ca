// pipeline: morph-winograd{layer=conv_2d_nchw_fchw.1 tile=2}
// expect: -1.25 0.5 -0.5 1.25 0.25 -0.75 1 0 -1 0.75 -0.25 -1.25 0.5 -0.5 1.25 0.25 -0.75 1 0 -1 0.75 -0.25 -1.25 0.5 -0.5 1.25 0.25 -0.75 1 0 -1 0.75 0 0.625 0.25 0 0.53125 0.15625 0 0.4375 0.0625 0.71875 0.34375 0 0.625 0.25 0 0.53125 0 0 0 0.15625 0 0 0.21875 0 0 0 0 0 0 0 0.15625 0 -0.789062 -0.597656 -1.20703 -0.0507812 1.62109 -2.96094 -2.17578 0.597656 -0.632812 -1.55078 0.8125 0.285156 0.128906 -1.87891 0.429688 0.0273438 1.70312 -0.820312 -0.625 1.37891 0.515625 0.738281 -1.38281 0.515625 2.16797 -1.58984 -1.75781 2.34375 -0.078125 0.226562 1.30469 0.867188
// nest: conv_2d_nchw_fchw.0#init | n=1 c=2 h=4 w=4 | load %3[c]; store %alloc[n, c, h, w]
// nest: conv_2d_nchw_fchw.0 | n=1 co=2 oh=4 ow=4 ci=2 kh=1 kw=1 | load %arg0[n, ci, oh + kh, ow + kw]; load %2[co, ci, kh, kw]; load %alloc[n, co, oh, ow]; store %alloc[n, co, oh, ow]
// nest: generic.0 | n=1 c=2 h=4 w=4 | load %alloc[n, c, h, w]; store %alloc_0[n, c, h, w]
// nest: concat.0#copy.0 | n=1 c=2 h=4 w=4 | load %arg0[n, c, h, w]; store %alloc_1[n, c, h, w]
// nest: concat.0#copy.1 | n=1 c=2 h=4 w=4 | load %alloc_0[n, c, h, w]; store %alloc_1[n, c + 2, h, w]
// nest: conv_2d_nchw_fchw.1#init.0 | n=1 c=4 h=6 w=6 | store %alloc_2[n, c, h, w]
// nest: conv_2d_nchw_fchw.1#pad | n=1 c=4 h=4 w=4 | load %alloc_1[n, c, h, w]; store %alloc_2[n, c, h + 1, w + 1]
// nest: conv_2d_nchw_fchw.1#init.1 | n=1 c=2 h=4 w=4 | load %0[c]; store %alloc_3[n, c, h, w]
// nest: conv_2d_nchw_fchw.1 | n=1 co=2 oh=4 ow=4 ci=4 kh=3 kw=3 | load %alloc_2[n, ci, oh + kh, ow + kw]; load %1[co, ci, kh, kw]; load %alloc_3[n, co, oh, ow]; store %alloc_3[n, co, oh, ow]
// nest: concat.1#copy.0 | n=1 c=4 h=4 w=4 | load %alloc_1[n, c, h, w]; store %arg1[n, c, h, w]
// nest: concat.1#copy.1 | n=1 c=2 h=4 w=4 | load %alloc_3[n, c, h, w]; store %arg1[n, c + 4, h, w]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
module {
  func.func @main(%arg0: tensor<1x2x4x4xf32>) -> tensor<1x6x4x4xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant dense_resource<torch_tensor_2_torch.float32_1> : tensor<2xf32>
    %cst_1 = arith.constant dense_resource<torch_tensor_2_4_3_3_torch.float32> : tensor<2x4x3x3xf32>
    %cst_2 = arith.constant dense_resource<torch_tensor_2_2_1_1_torch.float32> : tensor<2x2x1x1xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_2_torch.float32> : tensor<2xf32>
    %0 = tensor.empty() : tensor<1x2x4x4xf32>
    %broadcasted = linalg.broadcast ins(%cst_3 : tensor<2xf32>) outs(%0 : tensor<1x2x4x4xf32>) dimensions = [0, 2, 3] 
    %1 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%arg0, %cst_2 : tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>) outs(%broadcasted : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1 : tensor<1x2x4x4xf32>) outs(%0 : tensor<1x2x4x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %4 = arith.cmpf ugt, %in, %cst : f32
      %5 = arith.select %4, %in, %cst : f32
      linalg.yield %5 : f32
    } -> tensor<1x2x4x4xf32>
    %concat = tensor.concat dim(1) %arg0, %2 : (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x4x4x4xf32>
    %padded = tensor.pad %concat low[0, 0, 1, 1] high[0, 0, 1, 1] {
    ^bb0(%arg1: index, %arg2: index, %arg3: index, %arg4: index):
      tensor.yield %cst : f32
    } : tensor<1x4x4x4xf32> to tensor<1x4x6x6xf32>
    %broadcasted_4 = linalg.broadcast ins(%cst_0 : tensor<2xf32>) outs(%0 : tensor<1x2x4x4xf32>) dimensions = [0, 2, 3] 
    %3 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%padded, %cst_1 : tensor<1x4x6x6xf32>, tensor<2x4x3x3xf32>) outs(%broadcasted_4 : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
    %concat_5 = tensor.concat dim(1) %concat, %3 : (tensor<1x4x4x4xf32>, tensor<1x2x4x4xf32>) -> tensor<1x6x4x4xf32>
    return %concat_5 : tensor<1x6x4x4xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_2_torch.float32_1: "0x04000000000000BF0000C03E",
      torch_tensor_2_4_3_3_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF",
      torch_tensor_2_2_1_1_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE",
      torch_tensor_2_torch.float32: "0x040000000000003E0000C0BE"
    }
  }
#-}
