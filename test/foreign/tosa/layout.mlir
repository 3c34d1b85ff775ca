// pipeline: morph-interchange{layer=generic.0 order=c,n}
// nest: generic.0 | n=4 c=6 | load %arg0[c floordiv 3, c mod 3, n]; store %arg1[n, c]
#map = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<2x3x4xf32>) -> tensor<4x6xf32> {
    %0 = tensor.empty() : tensor<4x2x3xf32>
    %transposed = linalg.transpose ins(%arg0 : tensor<2x3x4xf32>) outs(%0 : tensor<4x2x3xf32>) permutation = [2, 0, 1] 
    %collapsed = tensor.collapse_shape %transposed [[0], [1, 2]] : tensor<4x2x3xf32> into tensor<4x6xf32>
    %1 = tensor.empty() : tensor<4x6xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%collapsed : tensor<4x6xf32>) outs(%1 : tensor<4x6xf32>) {
    ^bb0(%in: f32, %out: f32):
      %3 = math.tanh %in : f32
      linalg.yield %3 : f32
    } -> tensor<4x6xf32>
    return %2 : tensor<4x6xf32>
  }
}

