// RUN: loopmorph-opt %s --split-input-file -p 'morph-fuse-epilogue{layer=conv1}' | FileCheck %s

// CHECK-LABEL: func.func @scalar
// CHECK-NOT: memref.alloc
// CHECK: affine.for %[[CO:.*]] = 0 to 16 {
// CHECK-NEXT: %[[B:.*]] = affine.load %arg2[%[[CO]]] : memref<16xf32>
// CHECK-NEXT: %[[R:.*]] = affine.for %{{.*}} = 0 to 8 iter_args(%{{.*}} = %[[B]]) -> (f32) {
// CHECK: } {morph.iter = "ci"}
// CHECK-NEXT: %[[Y:.*]] = arith.maximumf %[[R]], %{{.*}} : f32
// CHECK-NEXT: affine.store %[[Y]], %arg3[%[[CO]] + 1] : memref<18xf32>
// CHECK-NEXT: } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
// CHECK-NEXT: return
func.func @scalar(%w: memref<16x8xf32>, %x: memref<8xf32>, %bias: memref<16xf32>, %y: memref<18xf32>) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %b = affine.load %bias[%c] : memref<16xf32>
    affine.store %b, %t[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "conv1", morph.role = "init"}
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %q = affine.load %x[%k] : memref<8xf32>
      %m = arith.mulf %p, %q : f32
      %n = arith.addf %a, %m : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = arith.maximumf %v, %zero : f32
    affine.store %r, %y[%c + 1] : memref<18xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// The residual is computed after the convolution, which therefore moves down; two element-wise nests in a row.
// CHECK-LABEL: func.func @vector
// CHECK: %[[U:.*]] = memref.alloc() : memref<4x16xf32>
// CHECK-NOT: memref.alloc
// CHECK: morph.layer = "shortcut"
// CHECK: affine.for %[[CO:.*]] = 0 to 4 {
// CHECK-NEXT: %[[S:.*]] = arith.constant dense<0.000000e+00> : vector<16xf32>
// CHECK-NEXT: %[[R:.*]] = affine.for %{{.*}} = 0 to 8 iter_args(%{{.*}} = %[[S]]) -> (vector<16xf32>) {
// CHECK: } {morph.iter = "ci"}
// CHECK-NEXT: %[[V:.*]] = affine.vector_load %[[U]][%[[CO]], 0] : memref<4x16xf32>, vector<16xf32>
// CHECK-NEXT: %[[A:.*]] = arith.addf %[[R]], %[[V]] fastmath<contract> : vector<16xf32>
// CHECK-NEXT: %[[G:.*]] = affine.load %arg2[%[[CO]]] : memref<4xf32>
// CHECK-NEXT: %[[W:.*]] = vector.broadcast %[[G]] : f32 to vector<16xf32>
// CHECK-NEXT: %[[Y:.*]] = arith.mulf %[[A]], %[[W]] : vector<16xf32>
// CHECK-NEXT: affine.vector_store %[[Y]], %arg3[%[[CO]] * 16] : memref<64xf32>, vector<16xf32>
// CHECK-NEXT: } {morph.iter = "co.0", morph.layer = "conv1", morph.role = "main"}
// CHECK-NEXT: return
func.func @vector(%w: memref<4x8x16xf32>, %x: memref<8xf32>, %scale: memref<4xf32>, %y: memref<64xf32>) {
  %t = memref.alloc() : memref<4x16xf32>
  affine.for %c0 = 0 to 4 {
    affine.for %c1 = 0 to 16 {
      %zero = arith.constant 0.0 : f32
      affine.store %zero, %t[%c0, %c1] : memref<4x16xf32>
    } {morph.iter = "c.1"}
  } {morph.iter = "c.0", morph.layer = "conv1", morph.role = "init"}
  affine.for %c = 0 to 4 {
    %s = affine.vector_load %t[%c, 0] : memref<4x16xf32>, vector<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (vector<16xf32>) {
      %p = affine.vector_load %w[%c, %k, 0] : memref<4x8x16xf32>, vector<16xf32>
      %q = affine.load %x[%k] : memref<8xf32>
      %b = vector.broadcast %q : f32 to vector<16xf32>
      %n = vector.fma %p, %b, %a : vector<16xf32>
      affine.yield %n : vector<16xf32>
    } {morph.iter = "ci"}
    affine.vector_store %r, %t[%c, 0] : memref<4x16xf32>, vector<16xf32>
  } {morph.iter = "co.0", morph.layer = "conv1", morph.role = "main"}
  %u = memref.alloc() : memref<4x16xf32>
  affine.for %c0 = 0 to 4 {
    affine.for %c1 = 0 to 16 {
      %v = affine.load %x[%c0] : memref<8xf32>
      affine.store %v, %u[%c0, %c1] : memref<4x16xf32>
    } {morph.iter = "c.1"}
  } {morph.iter = "c.0", morph.layer = "shortcut", morph.role = "main"}
  %sum = memref.alloc() : memref<4x16xf32>
  affine.for %c0 = 0 to 4 {
    affine.for %c1 = 0 to 16 {
      %v = affine.load %t[%c0, %c1] : memref<4x16xf32>
      %z = affine.load %u[%c0, %c1] : memref<4x16xf32>
      %r = arith.addf %v, %z fastmath<contract> : f32
      affine.store %r, %sum[%c0, %c1] : memref<4x16xf32>
    } {morph.iter = "c.1"}
  } {morph.iter = "c.0", morph.layer = "add", morph.role = "main"}
  affine.for %c = 0 to 64 {
    %v = affine.load %sum[%c floordiv 16, %c mod 16] : memref<4x16xf32>
    %g = affine.load %scale[%c floordiv 16] : memref<4xf32>
    %r = arith.mulf %v, %g : f32
    affine.store %r, %y[%c] : memref<64xf32>
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  return
}
