// refused: affine.parallel .*parallel.mlir:\d+:3.*: it has no place beside affine nests
// nest: no nests
// nest: no address: affine.parallel (parallel.mlir); only affine.for at a function's top has one
func.func @scale(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  affine.parallel (%i, %j) = (0, 0) to (4, 8) {
    %a = affine.load %x[%i, %j] : memref<4x8xf32>
    %b = arith.addf %a, %a : f32
    affine.store %b, %y[%i, %j] : memref<4x8xf32>
  }
  return
}
