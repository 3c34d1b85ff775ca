// RUN: loopmorph-opt %s -p 'morph-trim{layer=a iter=kh}' | FileCheck %s

// Rows 0 and 9 are zeros: of three taps, the first row has the last two, the last row the first two.
// CHECK-DAG: #[[FIRST:.*]] = affine_map<(d0) -> (0, -d0 + 1)>
// CHECK-DAG: #[[PAST:.*]] = affine_map<(d0) -> (3, -d0 + 9)>
// CHECK: affine.for %[[OH:.*]] = 0 to 8 {
// CHECK: %{{.*}} = affine.for %[[KH:.*]] = max #[[FIRST]](%[[OH]]) to min #[[PAST]](%[[OH]]) iter_args(%[[A:.*]] = %{{.*}}) -> (f32) {
// CHECK-NEXT: affine.load %{{.*}}[%[[OH]] + %[[KH]]] : memref<10xf32>
// CHECK: affine.yield
// CHECK-NEXT: } {morph.iter = "kh"}
func.func @f(%in: memref<8xf32>, %w: memref<3xf32>, %y: memref<8xf32>) {
  %z = arith.constant 0.0 : f32
  %x = memref.alloc() : memref<10xf32>
  affine.for %b = 0 to 2 {
    affine.store %z, %x[%b * 9] : memref<10xf32>
  } {morph.iter = "b", morph.layer = "a", morph.role = "init"}
  affine.for %h = 0 to 8 {
    %v = affine.load %in[%h] : memref<8xf32>
    affine.store %v, %x[%h + 1] : memref<10xf32>
  } {morph.iter = "h", morph.layer = "a", morph.role = "pad"}
  affine.for %oh = 0 to 8 {
    %r = affine.for %kh = 0 to 3 iter_args(%a = %z) -> (f32) {
      %v = affine.load %x[%oh + %kh] : memref<10xf32>
      %k = affine.load %w[%kh] : memref<3xf32>
      %p = arith.mulf %v, %k : f32
      %s = arith.addf %a, %p : f32
      affine.yield %s : f32
    } {morph.iter = "kh"}
    affine.store %r, %y[%oh] : memref<8xf32>
  } {morph.iter = "oh", morph.layer = "a", morph.role = "main"}
  return
}
