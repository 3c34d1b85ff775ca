// Nests without names get them; the entry point becomes @main, and what it adds to an output of a copied input.
// RUN: loopmorph-opt %s -p 'morph-name-nests,morph-entry{parameters=1}' | FileCheck %s

// CHECK: func.func @main(%arg0: memref<4x6xf32> {morph.input = 0 : i64}, %arg1: memref<6x8xf32> {morph.param = "arg1"},
// CHECK-SAME: %arg2: memref<4x8xf32> {morph.output = 0 : i64}, %arg3: memref<4x8xf32> {morph.input = 1 : i64})
// CHECK: affine.load %arg3
// CHECK: affine.store %{{.*}}, %arg2
// CHECK: {morph.iter = "n", morph.layer = "arg2", morph.role = "copy"}
// CHECK: affine.load %arg0
// CHECK: {morph.iter = "ci"}
// CHECK-NEXT: {morph.iter = "co"}
// CHECK-NEXT: {morph.iter = "n", morph.layer = "for.0", morph.role = "main"}
func.func @gemm(%a: memref<4x6xf32>, %b: memref<6x8xf32>, %c: memref<4x8xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      affine.for %k = 0 to 6 {
        %0 = affine.load %a[%i, %k] : memref<4x6xf32>
        %1 = affine.load %b[%k, %j] : memref<6x8xf32>
        %2 = affine.load %c[%i, %j] : memref<4x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %c[%i, %j] : memref<4x8xf32>
      }
    }
  }
  return
}
