// parameters: 1,2
// pipeline: morph-bottleneck{layer=conv_2d_nhwc_hwcf.0 iter=co factor=2},morph-tile{layer=conv_2d_nhwc_hwcf.1 iters=oh,ow sizes=2,2}
// nest: conv_2d_nhwc_hwcf.0#init | n=1 h=4 w=4 c=4 | store %alloc[n, h, w, c]
// nest: conv_2d_nhwc_hwcf.0 | n=1 oh=4 ow=4 co=4 kh=3 kw=3 ci=2 | load %arg0[n, oh + kh, ow + kw, ci]; load %arg1[kh, kw, ci, co]; load %alloc[n, oh, ow, co]; store %alloc[n, oh, ow, co]
// nest: generic.0 | n=1 h=4 w=4 c=4 | load %alloc[n, h, w, c]; store %alloc_0[n, h, w, c]
// nest: conv_2d_nhwc_hwcf.1#init.0 | n=1 h=6 w=6 c=4 | store %alloc_1[n, h, w, c]
// nest: conv_2d_nhwc_hwcf.1#pad | n=1 h=4 w=4 c=4 | load %alloc_0[n, h, w, c]; store %alloc_1[n, h + 1, w + 1, c]
// nest: conv_2d_nhwc_hwcf.1#init.1 | n=1 h=4 w=4 c=3 | store %arg3[n, h, w, c]
// nest: conv_2d_nhwc_hwcf.1 | n=1 oh=4 ow=4 co=3 kh=3 kw=3 ci=4 | load %alloc_1[n, oh + kh, ow + kw, ci]; load %arg2[kh, kw, ci, co]; load %arg3[n, oh, ow, co]; store %arg3[n, oh, ow, co]
func.func @block(%x: tensor<1x6x6x2xf32>, %w: tensor<3x3x2x4xf32>, %v: tensor<3x3x4x3xf32>) -> tensor<1x4x4x3xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<1x4x4x4xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %a = linalg.conv_2d_nhwc_hwcf {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x6x6x2xf32>, tensor<3x3x2x4xf32>) outs(%f : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32>
  %r = linalg.generic {
    indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>],
    iterator_types = ["parallel", "parallel", "parallel", "parallel"]
  } ins(%a : tensor<1x4x4x4xf32>) outs(%e : tensor<1x4x4x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %m = arith.maximumf %in, %zero : f32
    linalg.yield %m : f32
  } -> tensor<1x4x4x4xf32>
  %p = tensor.pad %r low[0, 1, 1, 0] high[0, 1, 1, 0] {
  ^bb0(%i: index, %j: index, %k: index, %l: index):
    tensor.yield %zero : f32
  } : tensor<1x4x4x4xf32> to tensor<1x6x6x4xf32>
  %e2 = tensor.empty() : tensor<1x4x4x3xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x4x4x3xf32>) -> tensor<1x4x4x3xf32>
  %b = linalg.conv_2d_nhwc_hwcf {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%p, %v : tensor<1x6x6x4xf32>, tensor<3x3x4x3xf32>) outs(%f2 : tensor<1x4x4x3xf32>) -> tensor<1x4x4x3xf32>
  return %b : tensor<1x4x4x3xf32>
}
