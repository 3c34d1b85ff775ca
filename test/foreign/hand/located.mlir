// parameters: 1,2
// pipeline: morph-group{layer=stem/conv iters=co,ci factor=2},morph-split{layer=head/conv iter=ow factor=2}
// nest: stem/conv#init | n=1 c=4 h=4 w=4 | store %alloc[n, c, h, w]
// nest: stem/conv | n=1 co=4 oh=4 ow=4 ci=4 kh=3 kw=3 | load %arg0[n, ci, oh + kh, ow + kw]; load %arg1[co, ci, kh, kw]; load %alloc[n, co, oh, ow]; store %alloc[n, co, oh, ow]
// nest: head/conv#init | n=1 c=2 h=4 w=4 | store %arg3[n, c, h, w]
// nest: head/conv | n=1 co=2 oh=4 ow=4 ci=4 kh=1 kw=1 | load %alloc[n, ci, oh + kh, ow + kw]; load %arg2[co, ci, kh, kw]; load %arg3[n, co, oh, ow]; store %arg3[n, co, oh, ow]
#stem = loc("stem/conv"("net.py":3:0))
#head = loc("head/conv"("net.py":4:0))
func.func @net(%x: tensor<1x4x6x6xf32>, %w: tensor<4x4x3x3xf32>, %v: tensor<2x4x1x1xf32>) -> tensor<1x2x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<1x4x4x4xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32> loc(#stem)
  %a = linalg.conv_2d_nchw_fchw {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%x, %w : tensor<1x4x6x6xf32>, tensor<4x4x3x3xf32>) outs(%f : tensor<1x4x4x4xf32>) -> tensor<1x4x4x4xf32> loc(#stem)
  %e2 = tensor.empty() : tensor<1x2x4x4xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> loc(#head)
  %b = linalg.conv_2d_nchw_fchw {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>}
      ins(%a, %v : tensor<1x4x4x4xf32>, tensor<2x4x1x1xf32>) outs(%f2 : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32> loc(#head)
  return %b : tensor<1x2x4x4xf32>
}
