// A sum leaves memory for all the loops that do not index it.
// RUN: loopmorph-opt %s -p 'morph-promote-accumulators' | FileCheck %s

// CHECK-LABEL: func.func @main
// CHECK: affine.for %[[I:.+]] = 0 to 8 {
// CHECK-NEXT: %[[START:.+]] = affine.load %{{.+}}[%[[I]]]
// CHECK-NEXT: %[[SUM:.+]] = affine.for %{{.+}} = 0 to 4 iter_args(%{{.+}} = %[[START]]) -> (f32) {
// CHECK-NEXT: affine.for %{{.+}} = 0 to 3 iter_args
// CHECK-NOT: affine.store
// CHECK: morph.iter = "kw"
// CHECK: morph.iter = "ci"
// CHECK: affine.store %[[SUM]], %{{.+}}[%[[I]]]
// CHECK-LABEL: func.func @shifted
// CHECK-NOT: iter_args
func.func @main(%x: memref<4x10xf32>, %y: memref<8xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %ci = 0 to 4 {
      affine.for %kw = 0 to 3 {
        %0 = affine.load %x[%ci, %i + %kw] : memref<4x10xf32>
        %1 = affine.load %y[%i] : memref<8xf32>
        %2 = arith.addf %0, %1 : f32
        affine.store %2, %y[%i] : memref<8xf32>
      } {morph.iter = "kw"}
    } {morph.iter = "ci"}
  } {morph.iter = "ow"}
  return
}

func.func @shifted(%y: memref<8xf32>) {
  affine.for %i = 0 to 7 {
    %1 = affine.load %y[%i] : memref<8xf32>
    affine.store %1, %y[%i + 1] : memref<8xf32>
  }
  return
}
