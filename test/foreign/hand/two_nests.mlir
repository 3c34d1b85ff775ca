// pipeline: morph-interchange{layer=for.0 order=ci,n,co},morph-unroll{layer=for.1 iter=c factor=2}
// nest: for.0#init | n=4 c=8 | store %alloca[n, c]
// nest: for.0 | n=4 co=8 ci=6 | load %arg0[n, ci]; load %arg1[ci, co]; load %alloca[n, co]; store %alloca[n, co]
// nest: for.1 | n=4 c=8 | load %alloca[n, c]; store %arg2[n, c]
func.func @gemm_relu(%A: memref<4x6xf32>, %B: memref<6x8xf32>, %C: memref<4x8xf32>) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloca() : memref<4x8xf32>
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      affine.store %zero, %t[%i, %j] : memref<4x8xf32>
    }
  }
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      affine.for %k = 0 to 6 {
        %a = affine.load %A[%i, %k] : memref<4x6xf32>
        %b = affine.load %B[%k, %j] : memref<6x8xf32>
        %c = affine.load %t[%i, %j] : memref<4x8xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %t[%i, %j] : memref<4x8xf32>
      }
    }
  }
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %c = affine.load %t[%i, %j] : memref<4x8xf32>
      %m = arith.maximumf %c, %zero : f32
      affine.store %m, %C[%i, %j] : memref<4x8xf32>
    }
  }
  return
}
