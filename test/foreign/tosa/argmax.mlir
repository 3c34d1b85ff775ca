// pipeline: morph-interchange{layer=generic.0 order=c,n}
// nest: generic.0#init.0 | c=3 | store %arg1[c]
// nest: generic.0#init.1 | c=3 | store %alloc[c]
// nest: generic.0 | n=3 c=5 | load %arg0[n, c]; load %arg1[n]; load %alloc[n]; store %arg1[n]; store %alloc[n]
#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d0)>
module {
  func.func @main(%arg0: tensor<3x5xf32>) -> tensor<3xi32> {
    %cst = arith.constant -3.40282347E+38 : f32
    %c0_i32 = arith.constant 0 : i32
    %0 = tensor.empty() : tensor<3xi32>
    %1 = linalg.fill ins(%c0_i32 : i32) outs(%0 : tensor<3xi32>) -> tensor<3xi32>
    %2 = tensor.empty() : tensor<3xf32>
    %3 = linalg.fill ins(%cst : f32) outs(%2 : tensor<3xf32>) -> tensor<3xf32>
    %4:2 = linalg.generic {indexing_maps = [#map, #map1, #map1], iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<3x5xf32>) outs(%1, %3 : tensor<3xi32>, tensor<3xf32>) {
    ^bb0(%in: f32, %out: i32, %out_0: f32):
      %5 = linalg.index 1 : index
      %6 = arith.index_cast %5 : index to i32
      %7 = arith.cmpf ogt, %in, %out_0 : f32
      %8 = arith.select %7, %in, %out_0 : f32
      %9 = arith.select %7, %6, %out : i32
      linalg.yield %9, %8 : i32, f32
    } -> (tensor<3xi32>, tensor<3xf32>)
    return %4#0 : tensor<3xi32>
  }
}

