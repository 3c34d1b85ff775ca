// refused: linalg.conv_2d_nhwc_fhwc_q of layer .*: quantised operations are not supported
#map = affine_map<(d0, d1, d2, d3) -> (d3)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
module {
  func.func @main(%arg0: tensor<1x6x6x2xi8>, %arg1: tensor<4x3x3x2xi8>, %arg2: tensor<4xi32>) -> tensor<1x4x4x4xi32> {
    %c3_i32 = arith.constant 3 : i32
    %c-7_i32 = arith.constant -7 : i32
    %0 = tensor.empty() : tensor<1x4x4x4xi32>
    %1 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg2 : tensor<4xi32>) outs(%0 : tensor<1x4x4x4xi32>) {
    ^bb0(%in: i32, %out: i32):
      linalg.yield %in : i32
    } -> tensor<1x4x4x4xi32>
    %2 = linalg.conv_2d_nhwc_fhwc_q {dilations = dense<1> : tensor<2xi64>, strides = dense<1> : tensor<2xi64>} ins(%arg0, %arg1, %c-7_i32, %c3_i32 : tensor<1x6x6x2xi8>, tensor<4x3x3x2xi8>, i32, i32) outs(%1 : tensor<1x4x4x4xi32>) -> tensor<1x4x4x4xi32>
    return %2 : tensor<1x4x4x4xi32>
  }
}

