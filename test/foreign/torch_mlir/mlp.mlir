// pipeline: morph-interchange{layer=matmul.0 order=ci,n,co},morph-vectorize{layer=generic.0 iter=c width=4}
// expect: -1.14844 0.0976562 -0.503906 -1.57422 -0.328125 -0.457031
// nest: matmul.0#init | n=2 c=8 | store %alloc[n, c]
// nest: matmul.0 | n=2 co=8 ci=6 | load %arg0[n, ci]; load %3[co, ci]; load %alloc[n, co]; store %alloc[n, co]
// nest: generic.0 | n=2 c=8 | load %alloc[n, c]; load %2[c]; store %alloc_0[n, c]
// nest: generic.1 | n=2 c=8 | load %alloc_0[n, c]; store %alloc_1[n, c]
// nest: matmul.1#init | n=2 c=3 | store %alloc_2[n, c]
// nest: matmul.1 | n=2 co=3 ci=8 | load %alloc_1[n, ci]; load %1[co, ci]; load %alloc_2[n, co]; store %alloc_2[n, co]
// nest: generic.2 | n=2 c=3 | load %alloc_2[n, c]; load %0[c]; store %arg1[n, c]
#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
module {
  func.func @main(%arg0: tensor<2x6xf32>) -> tensor<2x3xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %cst_0 = arith.constant dense_resource<torch_tensor_3_torch.float32> : tensor<3xf32>
    %cst_1 = arith.constant dense_resource<torch_tensor_3_8_torch.float32> : tensor<3x8xf32>
    %cst_2 = arith.constant dense_resource<torch_tensor_8_torch.float32> : tensor<8xf32>
    %cst_3 = arith.constant dense_resource<torch_tensor_8_6_torch.float32> : tensor<8x6xf32>
    %0 = tensor.empty() : tensor<6x8xf32>
    %transposed = linalg.transpose ins(%cst_3 : tensor<8x6xf32>) outs(%0 : tensor<6x8xf32>) permutation = [1, 0] 
    %1 = tensor.empty() : tensor<2x8xf32>
    %2 = linalg.fill ins(%cst : f32) outs(%1 : tensor<2x8xf32>) -> tensor<2x8xf32>
    %3 = linalg.matmul ins(%arg0, %transposed : tensor<2x6xf32>, tensor<6x8xf32>) outs(%2 : tensor<2x8xf32>) -> tensor<2x8xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%3, %cst_2 : tensor<2x8xf32>, tensor<8xf32>) outs(%1 : tensor<2x8xf32>) {
    ^bb0(%in: f32, %in_5: f32, %out: f32):
      %11 = arith.addf %in, %in_5 : f32
      linalg.yield %11 : f32
    } -> tensor<2x8xf32>
    %5 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%4 : tensor<2x8xf32>) outs(%1 : tensor<2x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %11 = arith.cmpf ugt, %in, %cst : f32
      %12 = arith.select %11, %in, %cst : f32
      linalg.yield %12 : f32
    } -> tensor<2x8xf32>
    %6 = tensor.empty() : tensor<8x3xf32>
    %transposed_4 = linalg.transpose ins(%cst_1 : tensor<3x8xf32>) outs(%6 : tensor<8x3xf32>) permutation = [1, 0] 
    %7 = tensor.empty() : tensor<2x3xf32>
    %8 = linalg.fill ins(%cst : f32) outs(%7 : tensor<2x3xf32>) -> tensor<2x3xf32>
    %9 = linalg.matmul ins(%5, %transposed_4 : tensor<2x8xf32>, tensor<8x3xf32>) outs(%8 : tensor<2x3xf32>) -> tensor<2x3xf32>
    %10 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%9, %cst_0 : tensor<2x3xf32>, tensor<3xf32>) outs(%7 : tensor<2x3xf32>) {
    ^bb0(%in: f32, %in_5: f32, %out: f32):
      %11 = arith.addf %in, %in_5 : f32
      linalg.yield %11 : f32
    } -> tensor<2x3xf32>
    return %10 : tensor<2x3xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_3_torch.float32: "0x04000000000000BF0000C03E000000BE",
      torch_tensor_3_8_torch.float32: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000",
      torch_tensor_8_torch.float32: "0x040000000000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF",
      torch_tensor_8_6_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE"
    }
  }
#-}
