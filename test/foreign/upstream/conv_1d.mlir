// pipeline: morph-split{layer=conv_1d.0 iter=ow factor=4},morph-unroll{layer=conv_1d.0 iter=kw factor=3}
// nest: conv_1d.0 | ow=8 kw=3 | load %arg0[ow + kw]; load %arg1[kw]; load %arg2[ow]; store %arg2[ow]
func.func @conv(%x: memref<10xf32>, %w: memref<3xf32>, %y: memref<8xf32>) {
  linalg.conv_1d ins(%x, %w : memref<10xf32>, memref<3xf32>) outs(%y : memref<8xf32>)
  return
}
