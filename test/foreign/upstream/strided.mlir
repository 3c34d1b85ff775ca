// refused: argument 0 of @f .*strided.mlir:\d+:1.*: memref<4x6xf32, strided<\[12, 2\], offset: 3>>: only memrefs of static shape that lie densely
// nest: generic.0#init | c=4 | store %arg1[c]
// nest: generic.0 | n=4 c=6 | load %arg0[n, c]; load %arg1[n]; store %arg1[n]
func.func @f(%x: memref<4x6xf32, strided<[12, 2], offset: 3>>, %y: memref<4xf32>) {
  %zero = arith.constant 0.0 : f32
  linalg.fill ins(%zero : f32) outs(%y : memref<4xf32>)
  linalg.generic {
    indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
    iterator_types = ["parallel", "reduction"]
  } ins(%x : memref<4x6xf32, strided<[12, 2], offset: 3>>) outs(%y : memref<4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.addf %in, %out : f32
    linalg.yield %0 : f32
  }
  return
}
