// pipeline: morph-interchange{layer=insert_slice.0#init order=c,n}
// nest: insert_slice.0#init | n=3 c=5 | load %arg1[n, c]; store %arg2[n, c]
// nest: insert_slice.0#copy | c=5 | load %arg0[2, c]; store %arg2[1, c]
func.func @row(%x: tensor<4x5xf32>, %y: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %r = tensor.extract_slice %x[2, 0] [1, 5] [1, 1] : tensor<4x5xf32> to tensor<5xf32>
  %0 = tensor.insert_slice %r into %y[1, 0] [1, 5] [1, 1] : tensor<5xf32> into tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}
