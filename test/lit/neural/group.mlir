// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=co,ci factor=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=co,ci factor=2},morph-group{layer=a iters=co,ci factor=4}' | FileCheck %s --check-prefix=TWICE
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=co,ci factor=2},morph-bottleneck{layer=a iter=co factor=2}' | FileCheck %s --check-prefix=BOTTLENECK

// CHECK: %[[W:[a-z0-9]+]]: memref<64x16xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1 + (d0 floordiv 32) * 16)>, morph.param = "a.weight"}
// CHECK: affine.for %[[G:.*]] = 0 to 2 {
// CHECK: affine.for %[[CO:.*]] = 0 to 32 {
// CHECK: affine.for %[[CI:.*]] = 0 to 16 {
// CHECK: affine.load %{{.*}}[%[[G]] * 16 + %[[CI]]] : memref<32xf32>
// CHECK: affine.load %[[W]][%[[G]] * 32 + %[[CO]], %[[CI]]] : memref<64x16xf32>
// CHECK: affine.store %{{.*}}, %{{.*}}[%[[G]] * 32 + %[[CO]]] : memref<64xf32>
// CHECK: {morph.iter = "ci"}
// CHECK: {morph.iter = "co"}
// CHECK: {morph.iter = "g", morph.layer = "a", morph.role = "main"}
// CHECK-NOT: 64x32

// TWICE: memref<64x4xf32>
// TWICE: affine.for %[[G:.*]] = 0 to 2 {
// TWICE: affine.for %[[H:.*]] = 0 to 4 {
// TWICE: affine.for %[[CO:.*]] = 0 to 8 {
// TWICE: affine.for %[[CI:.*]] = 0 to 4 {
// TWICE: affine.load %{{.*}}[%[[G]] * 16 + %[[H]] * 4 + %[[CI]]] : memref<32xf32>
// TWICE: morph.iter = "g1"

// Each group keeps the head of its own channels, and its reader follows.
// BOTTLENECK: %[[W:[a-z0-9]+]]: memref<32x16xf32>
// BOTTLENECK: affine.for %[[G:.*]] = 0 to 2 {
// BOTTLENECK: affine.for %[[CO:.*]] = 0 to 16 {
// BOTTLENECK: affine.for %[[CI:.*]] = 0 to 16 {
// BOTTLENECK: affine.load %[[W]][%[[G]] * 16 + %[[CO]], %[[CI]]] : memref<32x16xf32>
// BOTTLENECK: affine.for %{{.*}} = 0 to 32 {
// BOTTLENECK-NOT: 64

func.func @main(%x: memref<32xf32> {morph.input = 0 : i64}, %w: memref<64x32xf32> {morph.param = "a.weight"},
                %v: memref<64xf32> {morph.param = "b.weight"}, %y: memref<1xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<64xf32>
  affine.for %co = 0 to 64 {
    affine.for %ci = 0 to 32 {
      %0 = affine.load %x[%ci] : memref<32xf32>
      %1 = affine.load %w[%co, %ci] : memref<64x32xf32>
      %2 = affine.load %t[%co] : memref<64xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<64xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %ci = 0 to 64 {
    %0 = affine.load %t[%ci] : memref<64xf32>
    %1 = affine.load %v[%ci] : memref<64xf32>
    %2 = affine.load %y[0] : memref<1xf32>
    %3 = arith.mulf %0, %1 : f32
    %4 = arith.addf %2, %3 : f32
    affine.store %4, %y[0] : memref<1xf32>
  } {morph.iter = "ci", morph.layer = "b", morph.role = "main"}
  return
}
