// pipeline: morph-interchange{layer=for.0 order=i1,i0,i2}
// nest: for.0 | i0=3 i1=4 i2=2 | load %arg0[i0]; load %arg1[i1]; load %arg2[i0, i1]; store %arg2[i0, i1]
func.func @outer(%x: memref<3xf64>, %y: memref<4xf64>, %z: memref<3x4xf64>) {
  affine.for %i = 0 to 3 {
    affine.for %j = 0 to 4 {
      affine.for %k = 0 to 2 {
        %a = affine.load %x[%i] : memref<3xf64>
        %b = affine.load %y[%j] : memref<4xf64>
        %c = affine.load %z[%i, %j] : memref<3x4xf64>
        %p = arith.mulf %a, %b : f64
        %s = arith.addf %c, %p : f64
        affine.store %s, %z[%i, %j] : memref<3x4xf64>
      } {morph.iter = "i2"}
    } {morph.iter = "i1"}
  } {morph.iter = "i0"}
  return
}
