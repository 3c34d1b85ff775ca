// pipeline: morph-interchange{layer=conv_2d_ngchw_gfchw.0 order=n,g,oh,co,ci,kh,kw,ow},morph-split{layer=depthwise_conv_2d_nhwc_hwc.0 iter=c factor=2}
// nest: conv_2d_ngchw_gfchw.0#init | n=1 c=2 d=3 h=3 w=3 | load %arg2[n, c, d, h, w]; store %arg6[n, c, d, h, w]
// nest: conv_2d_ngchw_gfchw.0 | n=1 g=2 co=3 oh=3 ow=3 ci=2 kh=3 kw=3 | load %arg0[n, g, ci, oh + kh, ow + kw]; load %arg1[g, co, ci, kh, kw]; load %arg6[n, g, co, oh, ow]; store %arg6[n, g, co, oh, ow]
// nest: depthwise_conv_2d_nhwc_hwc.0#init | n=1 h=3 w=3 c=4 | load %arg5[n, h, w, c]; store %arg7[n, h, w, c]
// nest: depthwise_conv_2d_nhwc_hwc.0 | n=1 oh=3 ow=3 c=4 kh=3 kw=3 | load %arg3[n, oh + kh, ow + kw, c]; load %arg4[kh, kw, c]; load %arg7[n, oh, ow, c]; store %arg7[n, oh, ow, c]
func.func @convs(%x: tensor<1x2x2x5x5xf32>, %w: tensor<2x3x2x3x3xf32>, %a: tensor<1x2x3x3x3xf32>,
                 %y: tensor<1x5x5x4xf32>, %v: tensor<3x3x4xf32>, %b: tensor<1x3x3x4xf32>)
    -> (tensor<1x2x3x3x3xf32>, tensor<1x3x3x4xf32>) {
  %0 = linalg.conv_2d_ngchw_gfchw {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x2x2x5x5xf32>, tensor<2x3x2x3x3xf32>) outs(%a : tensor<1x2x3x3x3xf32>) -> tensor<1x2x3x3x3xf32>
  %1 = linalg.depthwise_conv_2d_nhwc_hwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%y, %v : tensor<1x5x5x4xf32>, tensor<3x3x4xf32>) outs(%b : tensor<1x3x3x4xf32>) -> tensor<1x3x3x4xf32>
  return %0, %1 : tensor<1x2x3x3x3xf32>, tensor<1x3x3x4xf32>
}
