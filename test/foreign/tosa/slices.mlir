// pipeline: morph-unroll{layer=generic.0 iter=c factor=5}
// nest: insert_slice.0#copy | n=4 c=3 | load %arg0[n, c + 1]; store %alloc[n, c]
// nest: insert_slice.1#init | n=4 c=5 | load %alloc[n, c]; store %alloc_0[n, c]
// nest: insert_slice.1#copy | n=4 c=2 | load %arg1[n, c]; store %alloc_0[n, c + 3]
// nest: generic.0 | n=4 c=5 | load %alloc_0[n, -c + 4]; store %arg2[n, c]
#map = affine_map<(d0, d1) -> (d0, d1)>
module {
  func.func @main(%arg0: tensor<4x6xf32>, %arg1: tensor<4x2xf32>) -> tensor<4x5xf32> {
    %c4 = arith.constant 4 : index
    %extracted_slice = tensor.extract_slice %arg0[0, 1] [4, 3] [1, 1] : tensor<4x6xf32> to tensor<4x3xf32>
    %0 = tensor.empty() : tensor<4x5xf32>
    %inserted_slice = tensor.insert_slice %extracted_slice into %0[0, 0] [4, 3] [1, 1] : tensor<4x3xf32> into tensor<4x5xf32>
    %inserted_slice_0 = tensor.insert_slice %arg1 into %inserted_slice[0, 3] [4, 2] [1, 1] : tensor<4x2xf32> into tensor<4x5xf32>
    %1 = linalg.generic {indexing_maps = [#map], iterator_types = ["parallel", "parallel"]} outs(%0 : tensor<4x5xf32>) {
    ^bb0(%out: f32):
      %2 = linalg.index 0 : index
      %3 = linalg.index 1 : index
      %4 = arith.subi %c4, %3 : index
      %extracted = tensor.extract %inserted_slice_0[%2, %4] : tensor<4x5xf32>
      linalg.yield %extracted : f32
    } -> tensor<4x5xf32>
    return %1 : tensor<4x5xf32>
  }
}

