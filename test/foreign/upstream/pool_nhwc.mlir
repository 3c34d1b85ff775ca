// pipeline: morph-interchange{layer=pooling_nhwc_sum.0 order=n,c,kh,kw,oh,ow}
// nest: pooling_nhwc_sum.0#init | n=1 h=2 w=2 c=2 | load %arg1[n, h, w, c]; store %arg2[n, h, w, c]
// nest: pooling_nhwc_sum.0 | n=1 oh=2 ow=2 c=2 kh=3 kw=3 | load %arg0[n, oh * 3 + kh, ow * 3 + kw, c]; load %arg2[n, oh, ow, c]; store %arg2[n, oh, ow, c]
func.func @pool(%x: tensor<1x6x6x2xf32>, %y: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  %window = tensor.empty() : tensor<3x3xf32>
  %0 = linalg.pooling_nhwc_sum {dilations = dense<1> : tensor<2xi64>, strides = dense<3> : tensor<2xi64>}
      ins(%x, %window : tensor<1x6x6x2xf32>, tensor<3x3xf32>) outs(%y : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  return %0 : tensor<1x2x2x2xf32>
}
