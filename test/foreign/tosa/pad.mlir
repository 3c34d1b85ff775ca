// pipeline: morph-interchange{layer=pad.0#pad order=c,n}
// nest: pad.0#init | n=5 c=5 | store %arg1[n, c]
// nest: pad.0#pad | n=2 c=3 | load %arg0[n, c]; store %arg1[n + 1, c]
module {
  func.func @main(%arg0: tensor<2x3xf32>) -> tensor<5x5xf32> {
    %cst = arith.constant 1.500000e+00 : f32
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %padded = tensor.pad %arg0 low[%c1, %c0] high[%c2, %c2] {
    ^bb0(%arg1: index, %arg2: index):
      tensor.yield %cst : f32
    } : tensor<2x3xf32> to tensor<5x5xf32>
    return %padded : tensor<5x5xf32>
  }
}

