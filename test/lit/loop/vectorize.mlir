// RUN: loopmorph-opt %s -p 'morph-vectorize{layer=scale iter=w width=8},morph-vectorize{layer=sum iter=w width=8},morph-vectorize{layer=even iter=w width=4}' | FileCheck %s

// A whole vector needs no loop, what is left stays scalar; the scale is broadcast.
// CHECK-LABEL: func.func @scale
// CHECK: affine.for %[[C:.*]] = 0 to 3 {
// CHECK-NEXT: %[[A:.*]] = affine.vector_load %{{.*}}[%[[C]], 0] : memref<3x12xf32>, vector<8xf32>
// CHECK-NEXT: %[[S:.*]] = affine.load %{{.*}}[%[[C]]] : memref<3xf32>
// CHECK-NEXT: %[[B:.*]] = vector.broadcast %[[S]] : f32 to vector<8xf32>
// CHECK-NEXT: %[[P:.*]] = arith.mulf %[[A]], %[[B]] : vector<8xf32>
// CHECK-NEXT: affine.vector_store %[[P]], %{{.*}}[%[[C]], 0] : memref<3x12xf32>, vector<8xf32>
// CHECK-NEXT: affine.for %[[R:.*]] = 8 to 12 {
// CHECK-NEXT: affine.load %{{.*}}[%[[C]], %[[R]]] : memref<3x12xf32>
// CHECK: } {morph.iter = "w.rest"}
// CHECK-NEXT: } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
func.func @scale(%x: memref<3x12xf32>, %s: memref<3xf32>, %y: memref<3x12xf32>) {
  affine.for %c = 0 to 3 {
    affine.for %w = 0 to 12 {
      %a = affine.load %x[%c, %w] : memref<3x12xf32>
      %b = affine.load %s[%c] : memref<3xf32>
      %p = arith.mulf %a, %b : f32
      affine.store %p, %y[%c, %w] : memref<3x12xf32>
    } {morph.iter = "w"}
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  return
}

// A reduction over the lanes; around a nest's only loop another one is put.
// CHECK-LABEL: func.func @sum
// CHECK: affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT: %[[N:.*]] = arith.constant dense<-0.000000e+00> : vector<8xf32>
// CHECK-NEXT: %[[F:.*]] = affine.for %[[W:.*]] = 0 to 4 iter_args(%[[ACC:.*]] = %[[N]]) -> (vector<8xf32>) {
// CHECK-NEXT: %[[V:.*]] = affine.vector_load %{{.*}}[%[[W]] * 8] : memref<32xf32>, vector<8xf32>
// CHECK-NEXT: %[[T:.*]] = arith.addf %[[ACC]], %[[V]] : vector<8xf32>
// CHECK-NEXT: affine.yield %[[T]] : vector<8xf32>
// CHECK-NEXT: } {morph.iter = "w"}
// CHECK-NEXT: %[[O:.*]] = affine.load %{{.*}}[0] : memref<1xf32>
// CHECK-NEXT: %[[R:.*]] = vector.reduction <add>, %[[F]], %[[O]] fastmath<reassoc> : vector<8xf32> into f32
// CHECK-NEXT: affine.store %[[R]], %{{.*}}[0] : memref<1xf32>
// CHECK-NEXT: } {morph.iter = "w.0", morph.layer = "sum", morph.role = "main"}
func.func @sum(%x: memref<32xf32>, %y: memref<1xf32>) {
  affine.for %w = 0 to 32 {
    %v = affine.load %x[%w] : memref<32xf32>
    %o = affine.load %y[0] : memref<1xf32>
    %s = arith.addf %o, %v : f32
    affine.store %s, %y[0] : memref<1xf32>
  } {morph.iter = "w", morph.layer = "sum", morph.role = "main"}
  return
}

// Elements that do not lie side by side are read one by one.
// CHECK-LABEL: func.func @even
// CHECK: affine.for %{{.*}} = 0 to 3 {
// CHECK-NEXT: affine.for %[[W:.*]] = 0 to 2 {
// CHECK-NEXT: %[[E0:.*]] = affine.load %{{.*}}[%{{.*}}, %[[W]] * 8] : memref<3x16xf32>
// CHECK-NEXT: %[[E1:.*]] = affine.load %{{.*}}[%{{.*}}, %[[W]] * 8 + 2] : memref<3x16xf32>
// CHECK-NEXT: %[[E2:.*]] = affine.load %{{.*}}[%{{.*}}, %[[W]] * 8 + 4] : memref<3x16xf32>
// CHECK-NEXT: %[[E3:.*]] = affine.load %{{.*}}[%{{.*}}, %[[W]] * 8 + 6] : memref<3x16xf32>
// CHECK-NEXT: %[[V:.*]] = vector.from_elements %[[E0]], %[[E1]], %[[E2]], %[[E3]] : vector<4xf32>
// CHECK-NEXT: affine.vector_store %[[V]], %{{.*}}[%{{.*}}, %[[W]] * 4] : memref<3x8xf32>, vector<4xf32>
// CHECK-NEXT: } {morph.iter = "w", morph.parallel}
func.func @even(%x: memref<3x16xf32>, %y: memref<3x8xf32>) {
  affine.for %c = 0 to 3 {
    affine.for %w = 0 to 8 {
      %v = affine.load %x[%c, %w * 2] : memref<3x16xf32>
      affine.store %v, %y[%c, %w] : memref<3x8xf32>
    } {morph.iter = "w", morph.parallel}
  } {morph.iter = "c", morph.layer = "even", morph.role = "main"}
  return
}
