// pipeline: morph-interchange{layer=conv_2d_nhwc_fhwc.0 order=n,oh,ow,kh,kw,ci,co}
// nest: conv_2d_nhwc_fhwc.0#init.0 | n=1 h=8 w=8 c=2 | store %alloc[n, h, w, c]
// nest: conv_2d_nhwc_fhwc.0#pad | n=1 h=6 w=6 c=2 | load %arg0[n, h, w, c]; store %alloc[n, h + 1, w + 1, c]
// nest: generic.0 | n=1 h=6 w=6 c=4 | load %arg2[c]; store %alloc_1[n, h, w, c]
// nest: conv_2d_nhwc_fhwc.0#init.1 | n=1 h=6 w=6 c=4 | load %alloc_1[n, h, w, c]; store %alloc_2[n, h, w, c]
// nest: conv_2d_nhwc_fhwc.0 | n=1 oh=6 ow=6 co=4 kh=3 kw=3 ci=2 | load %alloc[n, oh + kh, ow + kw, ci]; load %arg1[co, kh, kw, ci]; load %alloc_2[n, oh, ow, co]; store %alloc_2[n, oh, ow, co]
// nest: generic.1 | n=1 h=6 w=6 c=4 | load %alloc_2[0, h, w, c]; store %arg3[n, h, w, c]
#map = affine_map<(d0, d1, d2, d3) -> (d3)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map2 = affine_map<(d0, d1, d2, d3) -> (0, d1, d2, d3)>
module {
  func.func @main(%arg0: tensor<1x6x6x2xf32>, %arg1: tensor<4x3x3x2xf32>, %arg2: tensor<4xf32>) -> tensor<1x6x6x4xf32> {
    %cst = arith.constant 6.000000e+00 : f32
    %cst_0 = arith.constant 0.000000e+00 : f32
    %padded = tensor.pad %arg0 low[0, 1, 1, 0] high[0, 1, 1, 0] {
    ^bb0(%arg3: index, %arg4: index, %arg5: index, %arg6: index):
      tensor.yield %cst_0 : f32
    } : tensor<1x6x6x2xf32> to tensor<1x8x8x2xf32>
    %0 = tensor.empty() : tensor<1x6x6x4xf32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg2 : tensor<4xf32>) outs(%0 : tensor<1x6x6x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<1x6x6x4xf32>
    %2 = linalg.conv_2d_nhwc_fhwc {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>} ins(%padded, %arg1 : tensor<1x8x8x2xf32>, tensor<4x3x3x2xf32>) outs(%1 : tensor<1x6x6x4xf32>) -> tensor<1x6x6x4xf32>
    %3 = linalg.generic {indexing_maps = [#map2, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%2 : tensor<1x6x6x4xf32>) outs(%0 : tensor<1x6x6x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %4 = arith.minimumf %in, %cst : f32
      %5 = arith.maximumf %4, %cst_0 : f32
      linalg.yield %5 : f32
    } -> tensor<1x6x6x4xf32>
    return %3 : tensor<1x6x6x4xf32>
  }
}

