// pipeline: morph-promote{layer=conv_2d_ngchw_gfchw.0},morph-fuse-epilogue{layer=conv_2d_ngchw_gfchw.0}
// expect: -0.139051 1.43501 -0.117916 0 1.5053 -0.16336 -0.080884 -0.139051 1.43501 0.0878253 -0.132062 0.978419 -0.169045 -0.132686 1.18824 0.107694 0.0878253 -0.132062 1.294 1.74915 -0.0923205 -0.116278 2.80559 -0.132062 -0.0180245 1.294 1.74915 -0.135853 1.22346 -0.0904362 0.429673 0.0328074 -0.149824 0.875313 -0.135853 1.22346 1.54037 -0.0923205 0.580029 1.39979 -0.158655 0.171771 0 1.54037 -0.0923205 -0.116278 -0.125647 0.518455 0.875313 -0.155937 0.518455 2.02212 -0.116278 -0.125647
// nest: conv_2d_ngchw_gfchw.0#init | n=1 c=2 d=3 h=3 w=3 | store %alloc[n, c * 3 + d, h, w]
// nest: conv_2d_ngchw_gfchw.0 | n=1 g=2 co=3 oh=3 ow=3 ci=2 kh=3 kw=3 | load %arg0[n, g * 2 + ci, oh + kh, ow + kw]; load %0[g * 3 + co, ci, kh, kw]; load %alloc[n, g * 3 + co, oh, ow]; store %alloc[n, g * 3 + co, oh, ow]
// nest: generic.0 | n=1 c=6 h=3 w=3 | load %alloc[n, c, h, w]; store %arg1[n, c, h, w]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
module {
  func.func @main(%arg0: tensor<1x4x5x5xf32>) -> tensor<1x6x3x3xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant 1.000000e+00 : f32
    %cst_1 = arith.constant 5.000000e-01 : f32
    %cst_2 = arith.constant dense_resource<torch_tensor_6_2_3_3_torch.float32> : tensor<6x2x3x3xf32>
    %cst_3 = arith.constant 1.41421354 : f32
    %0 = tensor.empty() : tensor<1x6x3x3xf32>
    %expanded = tensor.expand_shape %arg0 [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 5, 5] : tensor<1x4x5x5xf32> into tensor<1x2x2x5x5xf32>
    %expanded_4 = tensor.expand_shape %cst_2 [[0, 1], [2], [3], [4]] output_shape [2, 3, 2, 3, 3] : tensor<6x2x3x3xf32> into tensor<2x3x2x3x3xf32>
    %expanded_5 = tensor.expand_shape %0 [[0], [1, 2], [3], [4]] output_shape [1, 2, 3, 3, 3] : tensor<1x6x3x3xf32> into tensor<1x2x3x3x3xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%expanded_5 : tensor<1x2x3x3x3xf32>) -> tensor<1x2x3x3x3xf32>
    %2 = linalg.conv_2d_ngchw_gfchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%expanded, %expanded_4 : tensor<1x2x2x5x5xf32>, tensor<2x3x2x3x3xf32>) outs(%1 : tensor<1x2x3x3x3xf32>) -> tensor<1x2x3x3x3xf32>
    %collapsed = tensor.collapse_shape %2 [[0], [1, 2], [3], [4]] : tensor<1x2x3x3x3xf32> into tensor<1x6x3x3xf32>
    %3 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%collapsed : tensor<1x6x3x3xf32>) outs(%0 : tensor<1x6x3x3xf32>) {
    ^bb0(%in: f32, %out: f32):
      %4 = arith.divf %in, %cst_3 : f32
      %5 = math.erf %4 : f32
      %6 = arith.addf %5, %cst_0 : f32
      %7 = arith.mulf %6, %cst_1 : f32
      %8 = arith.mulf %in, %7 : f32
      linalg.yield %8 : f32
    } -> tensor<1x6x3x3xf32>
    return %3 : tensor<1x6x3x3xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_6_2_3_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE"
    }
  }
#-}
