// refused: scf.for .*structured_loops.mlir:\d+:3
// nest: no nests
// nest: no address: scf.for (structured_loops.mlir); only affine.for at a function's top has one
func.func @fill(%y: memref<8xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %one = arith.constant 1.0 : f32
  scf.for %i = %c0 to %c8 step %c1 {
    memref.store %one, %y[%i] : memref<8xf32>
  }
  return
}
