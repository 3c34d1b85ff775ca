// pipeline: morph-vectorize{layer=generic.0 iter=c width=4}
// nest: generic.0 | n=2 c=4 | load %arg0[n, c]; load %arg1[n, c]; store %alloc[n, c]
// nest: generic.1 | n=2 c=4 | load %alloc[n, c]; load %arg0[n, c]; store %alloc_0[n, c]
// nest: reduce.0#init | c=2 | store %arg2[c]
// nest: reduce.0 | n=2 c=4 | load %alloc_0[n, c]; load %arg2[n]; store %arg2[n]
#map = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<2x4xi32>, %arg1: tensor<2x4xi32>) -> tensor<2xi32> {
    %c0_i32 = arith.constant 0 : i32
    %0 = tensor.empty() : tensor<2x4xi32>
    %1 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg0, %arg1 : tensor<2x4xi32>, tensor<2x4xi32>) outs(%0 : tensor<2x4xi32>) {
    ^bb0(%in: i32, %in_0: i32, %out: i32):
      %5 = arith.muli %in, %in_0 : i32
      linalg.yield %5 : i32
    } -> tensor<2x4xi32>
    %2 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%1, %arg0 : tensor<2x4xi32>, tensor<2x4xi32>) outs(%0 : tensor<2x4xi32>) {
    ^bb0(%in: i32, %in_0: i32, %out: i32):
      %5 = arith.maxsi %in, %in_0 : i32
      linalg.yield %5 : i32
    } -> tensor<2x4xi32>
    %3 = tensor.empty() : tensor<2xi32>
    %4 = linalg.fill ins(%c0_i32 : i32) outs(%3 : tensor<2xi32>) -> tensor<2xi32>
    %reduced = linalg.reduce ins(%2 : tensor<2x4xi32>) outs(%4 : tensor<2xi32>) dimensions = [1] 
      (%in: i32, %init: i32) {
        %5 = arith.addi %in, %init : i32
        linalg.yield %5 : i32
      }
    return %reduced : tensor<2xi32>
  }
}

