// pipeline: morph-tile{layer=depthwise_conv_2d_nchw_chw.0 iters=c,oh sizes=2,4}
// expect: -0.878906 0.296875 -1.34766 -0.0664062 -0.625 -1.39062 -0.109375 -0.359375 -0.828125 0.171875 -0.765625 -0.71875 0.203125 -1.28516 0.386719 0.105469 -1.23438 -0.109375 -0.359375 -0.453125 -0.433594 -0.957031 -0.296875 -0.078125 -0.585938 0.546875 -0.0390625 0.570312 0.183594 0.507812 0.820312 0.3125 -0.300781 0.539062 0.171875 0.5 0.476562 0.0820312 0.746094 0.0117188 0.0234375 0.742188 0.3125 -0.300781 0.265625 0.304688 0.585938 0.167969 -0.121094 0.398438 -0.347656 0.914062 -0.605469 0.433594 -0.078125 -0.792969 0.433594 0.402344 -0.371094 0.902344 -0.296875 -0.261719 0.777344 -0.703125 1.01172 0.671875 -0.675781 0.433594 0.402344 -0.046875 0.183594 -0.40625 0.160156 0.480469 -0.121094 -0.296875 -0.796875 -0.0625 -0.691406 -0.320312 0.0429688 -0.519531 -0.914062 -0.378906 -0.472656 -0.40625 -0.441406 -0.71875 -0.046875 -0.738281 -0.785156 -0.0742188 -0.519531 -0.914062 -0.703125 -0.453125 -0.238281 -0.75 -0.9375 -0.511719 0.183594 -0.660156 0.136719 0.289062 -0.304688 -0.195312 -0.484375 0.691406 0.0859375 -0.34375 0.171875 0.195312 -0.324219 -0.121094 -0.125 0.894531 -0.117188 -0.484375 0.691406 0.230469 0.0273438 0.144531 0.0585938 0.394531 0.34375 0.234375 -0.179688 0.679688 -0.191406 0.226562 0.640625 0.0234375 -0.152344 0.078125 0.257812 0.0625 0.015625 -0.144531 0.535156 -0.113281 -0.21875 0.484375 0.0234375 -0.152344 -0.296875 0.164062 0.3125 -0.292969 -0.378906 -0.046875
// nest: depthwise_conv_2d_nchw_chw.0#init.0 | n=1 c=4 h=7 w=7 | store %alloc[n, c, h, w]
// nest: depthwise_conv_2d_nchw_chw.0#pad | n=1 c=4 h=5 w=5 | load %arg0[n, c, h, w]; store %alloc[n, c, h + 1, w + 1]
// nest: depthwise_conv_2d_nchw_chw.0#init.1 | n=1 c=4 h=5 w=5 | load %3[c]; store %alloc_2[n, c, h, w]
// nest: depthwise_conv_2d_nchw_chw.0 | n=1 c=4 oh=5 ow=5 kh=3 kw=3 | load %alloc[n, c, oh + kh, ow + kw]; load %2[c, 0, kh, kw]; load %alloc_2[n, c, oh, ow]; store %alloc_2[n, c, oh, ow]
// nest: generic.0 | n=1 c=4 h=5 w=5 | load %alloc_2[n, c, h, w]; store %alloc_3[n, c, h, w]
// nest: generic.1 | n=1 c=4 h=5 w=5 | load %alloc_3[n, c, h, w]; store %alloc_4[n, c, h, w]
// nest: conv_2d_nchw_fchw.0#init | n=1 c=6 h=5 w=5 | load %0[c]; store %arg1[n, c, h, w]
// nest: conv_2d_nchw_fchw.0 | n=1 co=6 oh=5 ow=5 ci=4 kh=1 kw=1 | load %alloc_4[n, ci, oh + kh, ow + kw]; load %1[co, ci, kh, kw]; load %arg1[n, co, oh, ow]; store %arg1[n, co, oh, ow]
#map = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map1 = affine_map<(d0, d1, d2, d3) -> ()>
module {
  func.func @main(%arg0: tensor<1x4x5x5xf32>) -> tensor<1x6x5x5xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant dense<6.000000e+00> : tensor<f32>
    %cst_1 = arith.constant dense<0.000000e+00> : tensor<f32>
    %cst_2 = arith.constant dense_resource<torch_tensor_6_torch.float32> : tensor<6xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_6_4_1_1_torch.float32> : tensor<6x4x1x1xf32>
    %cst_4 = arith.constant dense_resource<torch_tensor_4_1_3_3_torch.float32> : tensor<4x1x3x3xf32>
    %cst_5 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %padded = tensor.pad %arg0 low[0, 0, 1, 1] high[0, 0, 1, 1] {
    ^bb0(%arg1: index, %arg2: index, %arg3: index, %arg4: index):
      tensor.yield %cst : f32
    } : tensor<1x4x5x5xf32> to tensor<1x4x7x7xf32>
    %0 = tensor.empty() : tensor<1x4x5x5xf32>
    %broadcasted = linalg.broadcast ins(%cst_5 : tensor<4xf32>) outs(%0 : tensor<1x4x5x5xf32>) dimensions = [0, 2, 3] 
    %collapsed = tensor.collapse_shape %cst_4 [[0, 1], [2], [3]] : tensor<4x1x3x3xf32> into tensor<4x3x3xf32>
    %1 = linalg.depthwise_conv_2d_nchw_chw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%padded, %collapsed : tensor<1x4x7x7xf32>, tensor<4x3x3xf32>) outs(%broadcasted : tensor<1x4x5x5xf32>) -> tensor<1x4x5x5xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1, %cst_1 : tensor<1x4x5x5xf32>, tensor<f32>) outs(%0 : tensor<1x4x5x5xf32>) {
    ^bb0(%in: f32, %in_7: f32, %out: f32):
      %6 = arith.cmpf ogt, %in, %in_7 : f32
      %7 = arith.select %6, %in, %in_7 : f32
      linalg.yield %7 : f32
    } -> tensor<1x4x5x5xf32>
    %3 = linalg.generic {indexing_maps = [#map1, #map, #map], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%cst_0, %2 : tensor<f32>, tensor<1x4x5x5xf32>) outs(%0 : tensor<1x4x5x5xf32>) {
    ^bb0(%in: f32, %in_7: f32, %out: f32):
      %6 = arith.cmpf olt, %in, %in_7 : f32
      %7 = arith.select %6, %in, %in_7 : f32
      linalg.yield %7 : f32
    } -> tensor<1x4x5x5xf32>
    %4 = tensor.empty() : tensor<1x6x5x5xf32>
    %broadcasted_6 = linalg.broadcast ins(%cst_2 : tensor<6xf32>) outs(%4 : tensor<1x6x5x5xf32>) dimensions = [0, 2, 3] 
    %5 = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%3, %cst_3 : tensor<1x4x5x5xf32>, tensor<6x4x1x1xf32>) outs(%broadcasted_6 : tensor<1x6x5x5xf32>) -> tensor<1x6x5x5xf32>
    return %5 : tensor<1x6x5x5xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_6_torch.float32: "0x04000000000000BF0000C03E000000BE000020BF0000803E000080BE",
      torch_tensor_6_4_1_1_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000",
      torch_tensor_4_1_3_3_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E",
      torch_tensor_4_torch.float32: "0x040000000000003E0000C0BE0000003F00000000"
    }
  }
#-}
