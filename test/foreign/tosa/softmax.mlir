// pipeline: morph-interchange{layer=reduce.0 order=c,n}
// nest: reduce.0#init | c=2 | store %alloc[c]
// nest: reduce.0 | n=2 c=5 | load %arg0[n, c]; load %alloc[n]; store %alloc[n]
// nest: generic.0 | n=2 c=5 | load %arg0[n, c]; load %alloc[n]; store %alloc_2[n, c]
// nest: generic.1 | n=2 c=5 | load %alloc_2[n, c]; store %alloc_3[n, c]
// nest: reduce.1#init | c=2 | store %alloc_4[c]
// nest: reduce.1 | n=2 c=5 | load %alloc_3[n, c]; load %alloc_4[n]; store %alloc_4[n]
// nest: generic.2 | n=2 c=1 | load %alloc_4[n]; store %alloc_5[n, c]
// nest: generic.3 | n=2 c=5 | load %alloc_3[n, c]; load %alloc_5[n, 0]; store %arg1[n, c]
#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d0, 0)>
module {
  func.func @main(%arg0: tensor<2x5xf32>) -> tensor<2x5xf32> {
    %cst = arith.constant 1.000000e+00 : f32
    %cst_0 = arith.constant 0.000000e+00 : f32
    %cst_1 = arith.constant -3.40282347E+38 : f32
    %0 = tensor.empty() : tensor<2xf32>
    %1 = linalg.fill ins(%cst_1 : f32) outs(%0 : tensor<2xf32>) -> tensor<2xf32>
    %reduced = linalg.reduce ins(%arg0 : tensor<2x5xf32>) outs(%1 : tensor<2xf32>) dimensions = [1] 
      (%in: f32, %init: f32) {
        %9 = arith.maximumf %in, %init : f32
        linalg.yield %9 : f32
      }
    %expanded = tensor.expand_shape %reduced [[0, 1]] output_shape [2, 1] : tensor<2xf32> into tensor<2x1xf32>
    %2 = tensor.empty() : tensor<2x5xf32>
    %3 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %expanded : tensor<2x5xf32>, tensor<2x1xf32>) outs(%2 : tensor<2x5xf32>) {
    ^bb0(%in: f32, %in_4: f32, %out: f32):
      %9 = arith.subf %in, %in_4 : f32
      linalg.yield %9 : f32
    } -> tensor<2x5xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%3 : tensor<2x5xf32>) outs(%2 : tensor<2x5xf32>) {
    ^bb0(%in: f32, %out: f32):
      %9 = math.exp %in : f32
      linalg.yield %9 : f32
    } -> tensor<2x5xf32>
    %5 = linalg.fill ins(%cst_0 : f32) outs(%0 : tensor<2xf32>) -> tensor<2xf32>
    %reduced_2 = linalg.reduce ins(%4 : tensor<2x5xf32>) outs(%5 : tensor<2xf32>) dimensions = [1] 
      (%in: f32, %init: f32) {
        %9 = arith.addf %in, %init : f32
        linalg.yield %9 : f32
      }
    %expanded_3 = tensor.expand_shape %reduced_2 [[0, 1]] output_shape [2, 1] : tensor<2xf32> into tensor<2x1xf32>
    %6 = tensor.empty() : tensor<2x1xf32>
    %7 = linalg.generic {indexing_maps = [#map1, #map], iterator_types = ["parallel", "parallel"]} ins(%expanded_3 : tensor<2x1xf32>) outs(%6 : tensor<2x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %9 = arith.divf %cst, %in : f32
      linalg.yield %9 : f32
    } -> tensor<2x1xf32>
    %8 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%4, %7 : tensor<2x5xf32>, tensor<2x1xf32>) outs(%2 : tensor<2x5xf32>) {
    ^bb0(%in: f32, %in_4: f32, %out: f32):
      %9 = arith.mulf %in, %in_4 : f32
      linalg.yield %9 : f32
    } -> tensor<2x5xf32>
    return %8 : tensor<2x5xf32>
  }
}

