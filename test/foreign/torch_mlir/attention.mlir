// pipeline: morph-interchange{layer=batch_matmul.0 order=b,co,ci,n}
// expect: 0.218841 -0.659807 0.542041 0.626798 0.0649605 -0.528099 0.40086 0.980594 -0.110125 -0.422688 0.229393 1.34841
// nest: matmul.0#init | n=3 c=4 | store %alloc[n, c]
// nest: matmul.0 | n=3 co=4 ci=4 | load %arg0[0, n, ci]; load %5[co, ci]; load %alloc[n, co]; store %alloc[n, co]
// nest: generic.0 | n=3 c=4 | load %alloc[n, c]; load %4[c]; store %alloc_4[n, c]
// nest: matmul.1#init | n=3 c=4 | store %alloc_5[n, c]
// nest: matmul.1 | n=3 co=4 ci=4 | load %arg0[0, n, ci]; load %3[co, ci]; load %alloc_5[n, co]; store %alloc_5[n, co]
// nest: generic.1 | n=3 c=4 | load %alloc_5[n, c]; load %2[c]; store %alloc_6[n, c]
// nest: matmul.2#init | n=3 c=4 | store %alloc_7[n, c]
// nest: matmul.2 | n=3 co=4 ci=4 | load %arg0[0, n, ci]; load %1[co, ci]; load %alloc_7[n, co]; store %alloc_7[n, co]
// nest: generic.2 | n=3 c=4 | load %alloc_7[n, c]; load %0[c]; store %alloc_8[n, c]
// nest: generic.3 | n=1 c=3 w=4 | load %alloc_4[c, w]; store %alloc_9[n, c, w]
// nest: generic.4 | n=1 c=4 w=3 | load %alloc_6[w, c]; store %alloc_10[n, c, w]
// nest: batch_matmul.0#init | n=1 c=3 w=3 | store %alloc_11[n, c, w]
// nest: batch_matmul.0 | b=1 n=3 co=3 ci=4 | load %alloc_9[b, n, ci]; load %alloc_10[b, ci, co]; load %alloc_11[b, n, co]; store %alloc_11[b, n, co]
// nest: generic.5#init.0 | n=1 c=3 | store %alloc_12[n, c]
// nest: generic.5#init.1 | n=1 c=3 | store %alloc_13[n, c]
// nest: generic.5 | n=1 c=3 w=3 | load %alloc_11[n, c, w]; load %alloc_12[n, c]; load %alloc_13[n, c]; store %alloc_12[n, c]; store %alloc_13[n, c]
// nest: generic.6 | n=1 c=3 w=3 | load %alloc_11[n, c, w]; load %alloc_12[n, c]; store %alloc_14[n, c, w]
// nest: generic.7 | n=1 c=3 w=3 | load %alloc_14[n, c, w]; store %alloc_15[n, c, w]
// nest: generic.8#init | n=1 c=3 w=1 | store %alloc_16[n, c, w]
// nest: generic.8 | n=1 c=3 w=3 | load %alloc_15[n, c, w]; load %alloc_16[n, c, 0]; store %alloc_16[n, c, 0]
// nest: generic.9 | n=1 c=3 w=3 | load %alloc_15[n, c, w]; load %alloc_16[n, c, 0]; store %alloc_17[n, c, w]
// nest: generic.10 | n=1 c=3 w=3 | load %alloc_11[n, c, w]; store %alloc_18[n, c, w]
// nest: generic.11#init | n=1 c=3 w=1 | store %alloc_19[n, c, w]
// nest: generic.11 | n=1 c=3 w=3 | load %alloc_18[n, c, w]; load %alloc_19[n, c, 0]; store %alloc_19[n, c, 0]
// nest: generic.12 | n=1 c=3 w=3 | load %alloc_19[n, c, 0]; load %alloc_17[n, c, w]; store %alloc_20[n, c, w]
// nest: batch_matmul.1#init | n=1 c=3 w=4 | store %arg1[n, c, w]
// nest: batch_matmul.1 | b=1 n=3 co=4 ci=3 | load %alloc_20[b, n, ci]; load %alloc_8[ci, co]; load %arg1[b, n, co]; store %arg1[b, n, co]
#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
#map2 = affine_map<(d0, d1, d2) -> (d0, d1, d2)>
#map3 = affine_map<(d0, d1, d2) -> (d0, d1)>
#map4 = affine_map<(d0, d1, d2) -> (d0, d1, 0)>
module {
  func.func @main(%arg0: tensor<1x3x4xf32>) -> tensor<1x3x4xf32> {
    %cst = arith.constant 0.000000e+00 : f32
    %c0_i64 = arith.constant 0 : i64
    %cst_0 = arith.constant 0xFF800000 : f32
    %true = arith.constant true
    %cst_1 = arith.constant dense<0.000000e+00> : tensor<1x3x3xf32>
    %cst_2 = arith.constant 0xFFF0000000000000 : f64
    %cst_3 = arith.constant 0.70710678118654757 : f64
    %cst_4 = arith.constant dense_resource<torch_tensor_4_torch.float32_2> : tensor<4xf32>
    %cst_5 = arith.constant dense_resource<torch_tensor_4_4_torch.float32_2> : tensor<4x4xf32>
    %cst_6 = arith.constant dense_resource<torch_tensor_4_torch.float32_1> : tensor<4xf32>
    %cst_7 = arith.constant dense_resource<torch_tensor_4_4_torch.float32_1> : tensor<4x4xf32>
    %cst_8 = arith.constant dense_resource<torch_tensor_4_torch.float32> : tensor<4xf32>
    %cst_9 = arith.constant dense_resource<torch_tensor_4_4_torch.float32> : tensor<4x4xf32>
    %collapsed = tensor.collapse_shape %arg0 [[0, 1], [2]] : tensor<1x3x4xf32> into tensor<3x4xf32>
    %0 = tensor.empty() : tensor<4x4xf32>
    %transposed = linalg.transpose ins(%cst_9 : tensor<4x4xf32>) outs(%0 : tensor<4x4xf32>) permutation = [1, 0] 
    %1 = tensor.empty() : tensor<3x4xf32>
    %2 = linalg.fill ins(%cst : f32) outs(%1 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %3 = linalg.matmul ins(%collapsed, %transposed : tensor<3x4xf32>, tensor<4x4xf32>) outs(%2 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%3, %cst_8 : tensor<3x4xf32>, tensor<4xf32>) outs(%1 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_16: f32, %out: f32):
      %35 = arith.addf %in, %in_16 : f32
      linalg.yield %35 : f32
    } -> tensor<3x4xf32>
    %expanded = tensor.expand_shape %4 [[0, 1], [2]] output_shape [1, 3, 4] : tensor<3x4xf32> into tensor<1x3x4xf32>
    %transposed_10 = linalg.transpose ins(%cst_7 : tensor<4x4xf32>) outs(%0 : tensor<4x4xf32>) permutation = [1, 0] 
    %5 = linalg.matmul ins(%collapsed, %transposed_10 : tensor<3x4xf32>, tensor<4x4xf32>) outs(%2 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %6 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%5, %cst_6 : tensor<3x4xf32>, tensor<4xf32>) outs(%1 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_16: f32, %out: f32):
      %35 = arith.addf %in, %in_16 : f32
      linalg.yield %35 : f32
    } -> tensor<3x4xf32>
    %expanded_11 = tensor.expand_shape %6 [[0, 1], [2]] output_shape [1, 3, 4] : tensor<3x4xf32> into tensor<1x3x4xf32>
    %transposed_12 = linalg.transpose ins(%cst_5 : tensor<4x4xf32>) outs(%0 : tensor<4x4xf32>) permutation = [1, 0] 
    %7 = linalg.matmul ins(%collapsed, %transposed_12 : tensor<3x4xf32>, tensor<4x4xf32>) outs(%2 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %8 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%7, %cst_4 : tensor<3x4xf32>, tensor<4xf32>) outs(%1 : tensor<3x4xf32>) {
    ^bb0(%in: f32, %in_16: f32, %out: f32):
      %35 = arith.addf %in, %in_16 : f32
      linalg.yield %35 : f32
    } -> tensor<3x4xf32>
    %expanded_13 = tensor.expand_shape %8 [[0, 1], [2]] output_shape [1, 3, 4] : tensor<3x4xf32> into tensor<1x3x4xf32>
    %9 = tensor.empty() : tensor<1x3x4xf32>
    %10 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%expanded : tensor<1x3x4xf32>) outs(%9 : tensor<1x3x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %35 = arith.truncf %cst_3 : f64 to f32
      %36 = arith.mulf %in, %35 : f32
      linalg.yield %36 : f32
    } -> tensor<1x3x4xf32>
    %11 = tensor.empty() : tensor<1x4x3xf32>
    %transposed_14 = linalg.transpose ins(%expanded_11 : tensor<1x3x4xf32>) outs(%11 : tensor<1x4x3xf32>) permutation = [0, 2, 1] 
    %12 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_14 : tensor<1x4x3xf32>) outs(%11 : tensor<1x4x3xf32>) {
    ^bb0(%in: f32, %out: f32):
      %35 = arith.truncf %cst_3 : f64 to f32
      %36 = arith.mulf %in, %35 : f32
      linalg.yield %36 : f32
    } -> tensor<1x4x3xf32>
    %13 = tensor.empty() : tensor<1x3x3xf32>
    %14 = linalg.fill ins(%cst : f32) outs(%13 : tensor<1x3x3xf32>) -> tensor<1x3x3xf32>
    %15 = linalg.batch_matmul ins(%10, %12 : tensor<1x3x4xf32>, tensor<1x4x3xf32>) outs(%14 : tensor<1x3x3xf32>) -> tensor<1x3x3xf32>
    %16 = tensor.empty() : tensor<1x3xi64>
    %17 = linalg.fill ins(%c0_i64 : i64) outs(%16 : tensor<1x3xi64>) -> tensor<1x3xi64>
    %18 = tensor.empty() : tensor<1x3xf32>
    %19 = linalg.fill ins(%cst_0 : f32) outs(%18 : tensor<1x3xf32>) -> tensor<1x3xf32>
    %20:2 = linalg.generic {indexing_maps = [#map2, #map3, #map3], iterator_types = ["parallel", "parallel", "reduction"]} ins(%15 : tensor<1x3x3xf32>) outs(%19, %17 : tensor<1x3xf32>, tensor<1x3xi64>) {
    ^bb0(%in: f32, %out: f32, %out_16: i64):
      %35 = linalg.index 2 : index
      %36 = arith.index_cast %35 : index to i64
      %37 = arith.maximumf %in, %out : f32
      %38 = arith.cmpf ogt, %in, %out : f32
      %39 = arith.select %38, %36, %out_16 : i64
      linalg.yield %37, %39 : f32, i64
    } -> (tensor<1x3xf32>, tensor<1x3xi64>)
    %expanded_15 = tensor.expand_shape %20#0 [[0], [1, 2]] output_shape [1, 3, 1] : tensor<1x3xf32> into tensor<1x3x1xf32>
    %21 = linalg.generic {indexing_maps = [#map2, #map4, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%15, %expanded_15 : tensor<1x3x3xf32>, tensor<1x3x1xf32>) outs(%13 : tensor<1x3x3xf32>) {
    ^bb0(%in: f32, %in_16: f32, %out: f32):
      %35 = arith.subf %in, %in_16 : f32
      linalg.yield %35 : f32
    } -> tensor<1x3x3xf32>
    %22 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%21 : tensor<1x3x3xf32>) outs(%13 : tensor<1x3x3xf32>) {
    ^bb0(%in: f32, %out: f32):
      %35 = math.exp %in : f32
      linalg.yield %35 : f32
    } -> tensor<1x3x3xf32>
    %23 = tensor.empty() : tensor<1x3x1xf32>
    %24 = linalg.fill ins(%cst : f32) outs(%23 : tensor<1x3x1xf32>) -> tensor<1x3x1xf32>
    %25 = linalg.generic {indexing_maps = [#map2, #map4], iterator_types = ["parallel", "parallel", "reduction"]} ins(%22 : tensor<1x3x3xf32>) outs(%24 : tensor<1x3x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %35 = arith.addf %in, %out : f32
      linalg.yield %35 : f32
    } -> tensor<1x3x1xf32>
    %26 = linalg.generic {indexing_maps = [#map2, #map4, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%22, %25 : tensor<1x3x3xf32>, tensor<1x3x1xf32>) outs(%13 : tensor<1x3x3xf32>) {
    ^bb0(%in: f32, %in_16: f32, %out: f32):
      %35 = arith.divf %in, %in_16 : f32
      linalg.yield %35 : f32
    } -> tensor<1x3x3xf32>
    %27 = tensor.empty() : tensor<1x3x3xi1>
    %28 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%15 : tensor<1x3x3xf32>) outs(%27 : tensor<1x3x3xi1>) {
    ^bb0(%in: f32, %out: i1):
      %35 = arith.extf %in : f32 to f64
      %36 = arith.cmpf oeq, %35, %cst_2 : f64
      linalg.yield %36 : i1
    } -> tensor<1x3x3xi1>
    %29 = tensor.empty() : tensor<1x3x1xi1>
    %30 = linalg.fill ins(%true : i1) outs(%29 : tensor<1x3x1xi1>) -> tensor<1x3x1xi1>
    %31 = linalg.generic {indexing_maps = [#map2, #map4], iterator_types = ["parallel", "parallel", "reduction"]} ins(%28 : tensor<1x3x3xi1>) outs(%30 : tensor<1x3x1xi1>) {
    ^bb0(%in: i1, %out: i1):
      %35 = arith.andi %in, %out : i1
      linalg.yield %35 : i1
    } -> tensor<1x3x1xi1>
    %32 = linalg.generic {indexing_maps = [#map4, #map2, #map2, #map2], iterator_types = ["parallel", "parallel", "parallel"]} ins(%31, %cst_1, %26 : tensor<1x3x1xi1>, tensor<1x3x3xf32>, tensor<1x3x3xf32>) outs(%13 : tensor<1x3x3xf32>) {
    ^bb0(%in: i1, %in_16: f32, %in_17: f32, %out: f32):
      %35 = arith.select %in, %in_16, %in_17 : f32
      linalg.yield %35 : f32
    } -> tensor<1x3x3xf32>
    %33 = linalg.fill ins(%cst : f32) outs(%9 : tensor<1x3x4xf32>) -> tensor<1x3x4xf32>
    %34 = linalg.batch_matmul ins(%32, %expanded_13 : tensor<1x3x3xf32>, tensor<1x3x4xf32>) outs(%33 : tensor<1x3x4xf32>) -> tensor<1x3x4xf32>
    return %34 : tensor<1x3x4xf32>
  }
}

{-#
  dialect_resources: {
    builtin: {
      torch_tensor_4_torch.float32_2: "0x040000000000803E000080BE0000203F0000003E",
      torch_tensor_4_4_torch.float32_2: "0x04000000000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F",
      torch_tensor_4_torch.float32_1: "0x04000000000000BF0000C03E000000BE000020BF",
      torch_tensor_4_4_torch.float32_1: "0x040000000000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE",
      torch_tensor_4_torch.float32: "0x040000000000003E0000C0BE0000003F00000000",
      torch_tensor_4_4_torch.float32: "0x04000000000080BE0000203F0000003E0000C0BE0000003F00000000000000BF0000C03E000000BE000020BF0000803E000080BE0000203F0000003E0000C0BE0000003F"
    }
  }
#-}
