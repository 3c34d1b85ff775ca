// pipeline: morph-interchange{layer=pooling_nhwc_max.0 order=n,oh,ow,kh,kw,c}
// nest: pooling_nhwc_max.0#init | n=1 h=3 w=3 c=3 | store %arg1[n, h, w, c]
// nest: pooling_nhwc_max.0 | n=1 oh=3 ow=3 c=3 kh=3 kw=3 | load %arg0[n, oh * 2 + kh, ow * 2 + kw, c]; load %arg1[n, oh, ow, c]; store %arg1[n, oh, ow, c]
module {
  func.func @main(%arg0: tensor<1x7x7x3xf32>) -> tensor<1x3x3x3xf32> {
    %cst = arith.constant -3.40282347E+38 : f32
    %0 = tensor.empty() : tensor<1x3x3x3xf32>
    %1 = linalg.fill ins(%cst : f32) outs(%0 : tensor<1x3x3x3xf32>) -> tensor<1x3x3x3xf32>
    %2 = tensor.empty() : tensor<3x3xf32>
    %3 = linalg.pooling_nhwc_max {dilations = dense<1> : vector<2xi64>, strides = dense<2> : vector<2xi64>} ins(%arg0, %2 : tensor<1x7x7x3xf32>, tensor<3x3xf32>) outs(%1 : tensor<1x3x3x3xf32>) -> tensor<1x3x3x3xf32>
    return %3 : tensor<1x3x3x3xf32>
  }
}

