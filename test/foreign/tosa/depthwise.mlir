// pipeline: morph-interchange{layer=depthwise_conv_2d_nhwc_hwcm.0 order=g,co,n,oh,ow,kh,kw}
// nest: depthwise_conv_2d_nhwc_hwcm.0#init | n=1 c=3 d=3 h=3 w=2 | store %alloc[n, c, d, h * 2 + w]
// nest: depthwise_conv_2d_nhwc_hwcm.0 | n=1 oh=3 ow=3 g=3 co=2 kh=3 kw=3 | load %arg0[n, oh + kh, ow + kw, g]; load %arg1[kh, kw, g, co]; load %alloc[n, oh, ow, g * 2 + co]; store %alloc[n, oh, ow, g * 2 + co]
// nest: generic.0 | n=1 c=3 h=3 w=6 | load %arg2[w]; load %alloc[n, c, h, w]; store %arg3[n, c, h, w]
#map = affine_map<(d0, d1, d2, d3) -> (d3)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
module {
  func.func @main(%arg0: tensor<1x5x5x3xf32>, %arg1: tensor<3x3x3x2xf32>, %arg2: tensor<6xf32>) -> tensor<1x3x3x6xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %0 = tensor.empty() : tensor<1x3x3x3x2xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<1x3x3x3x2xf32>) -> tensor<1x3x3x3x2xf32>
    %2 = tensor.empty() : tensor<1x3x3x6xf32>
    %3 = linalg.depthwise_conv_2d_nhwc_hwcm {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>} ins(%arg0, %arg1 : tensor<1x5x5x3xf32>, tensor<3x3x3x2xf32>) outs(%1 : tensor<1x3x3x3x2xf32>) -> tensor<1x3x3x3x2xf32>
    %collapsed = tensor.collapse_shape %3 [[0], [1], [2], [3, 4]] : tensor<1x3x3x3x2xf32> into tensor<1x3x3x6xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map1, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg2, %collapsed : tensor<6xf32>, tensor<1x3x3x6xf32>) outs(%2 : tensor<1x3x3x6xf32>) {
    ^bb0(%in: f32, %in_0: f32, %out: f32):
      %5 = arith.addf %in, %in_0 : f32
      linalg.yield %5 : f32
    } -> tensor<1x3x3x6xf32>
    return %4 : tensor<1x3x3x6xf32>
  }
}

