// RUN: loopmorph-opt %s -p 'morph-permute{layer=a iter=co order=4,5,6,7,0,2,1,3}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-permute{layer=b iter=ci order=4,5,6,7,0,2,1,3}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-permute{layer=scale iter=c order=0,1,2,3,4,5,6,7}' | FileCheck %s --check-prefix=SAME
// RUN: loopmorph-opt %s -p 'morph-permute{layer=a iter=co order=1,0,2,3,4,5,6,7}' | loopmorph-opt - -p 'morph-permute{layer=a iter=co order=4,5,6,7,0,1,2,3}' | FileCheck %s --check-prefix=TWICE
// RUN: loopmorph-opt %s -p 'morph-permute{layer=a iter=co order=7,6,5,4,3,2,1,0},morph-group{layer=b iters=co,ci factor=2}' | FileCheck %s --check-prefix=GROUP
// RUN: loopmorph-opt %s -p 'morph-group{layer=b iters=co,ci factor=2},morph-permute{layer=b iter=g order=1,0}' | FileCheck %s --check-prefix=BLOCKS
// RUN: loopmorph-opt %s -p 'morph-group{layer=b iters=co,ci factor=2},morph-permute{layer=b iter=ci order=1,0,3,2}' | FileCheck %s --check-prefix=WITHIN
// RUN: not loopmorph-opt %s -p 'morph-permute{layer=a iter=ci order=0,2,1}' 2>&1 | FileCheck %s --check-prefix=INPUT
// RUN: not loopmorph-opt %s -p 'morph-permute{layer=c iter=co order=1,0}' 2>&1 | FileCheck %s --check-prefix=OUTPUT
// RUN: not loopmorph-opt %s -p 'morph-group{layer=b iters=co,ci factor=2},morph-permute{layer=a iter=co order=4,1,2,3,0,5,6,7}' 2>&1 | FileCheck %s --check-prefix=GROUPED
// RUN: not loopmorph-opt %s -p 'morph-permute{layer=a iter=co order=0,1,2,3,4,5,6,6}' 2>&1 | FileCheck %s --check-prefix=REPEATED

// A network x -> a -> scale by g -> b -> c -> y. Only the elements of the parameters along the dimension move.

// CHECK: module attributes {morph.schedule = ["morph-permute{layer={{.*}} iter={{.*}} order=4,5,6,7,0,2,1,3}"]}
// CHECK: memref<8x3xf32> {morph.inherit = {{\[\[}}array<i64: 4, 8, 0, 1, 2, 3, 1, 2, 3, 4>, array<i64>]], morph.param = "a.weight"}
// CHECK-SAME: memref<8xf32> {morph.inherit = {{\[\[}}array<i64: 4, 8, 0, 1, 2, 3, 1, 2, 3, 4>]], morph.param = "g"}
// CHECK-SAME: memref<4x8xf32> {morph.inherit = {{\[\[}}array<i64>, array<i64: 4, 8, 0, 1, 2, 3, 1, 2, 3, 4>]], morph.param = "b.weight"}
// CHECK-SAME: memref<2x4xf32> {morph.param = "c.weight"}
// CHECK: affine.for %[[CO:.*]] = 0 to 8 {
// CHECK: affine.for %[[CI:.*]] = 0 to 3 {
// CHECK: affine.load %{{.*}}[%[[CO]], %[[CI]]] : memref<8x3xf32>
// CHECK: affine.store %{{.*}}, %{{.*}}[%[[CO]]] : memref<8xf32>

// SAME: morph.schedule = ["morph-permute{layer=scale iter=c order=0,1,2,3,4,5,6,7}"]
// SAME-NOT: morph.inherit

// TWICE: memref<8xf32> {morph.inherit = {{\[\[}}array<i64: 4, 8, 0, 4>], [array<i64: 1, 2, 0, 1, 2, 8>]], morph.param = "g"}

// The blocks on the diagonal are those of the new order.
// GROUP: memref<4x4xf32> {morph.inherit = [affine_map<(d0, d1) -> (d0, d1 + (d0 floordiv 2) * 4)>, [array<i64>, array<i64: 7, 8, 6, 7, 5, 6, 4, 5, 3, 4, 2, 3, 1, 2, 0, 1>]], morph.param = "b.weight"}

// Whole groups trade places, inputs and outputs together; what is within them stays.
// BLOCKS: memref<8x3xf32> {morph.inherit = {{\[\[}}array<i64: 4, 8, 0, 4>, array<i64>]], morph.param = "a.weight"}
// BLOCKS-SAME: memref<4x4xf32> {morph.inherit = {{\[\[}}array<i64: 2, 4, 0, 2>, array<i64>], affine_map<{{.*}}>], morph.param = "b.weight"}
// BLOCKS-SAME: memref<2x4xf32> {morph.inherit = {{\[\[}}array<i64>, array<i64: 2, 4, 0, 2>]], morph.param = "c.weight"}

// The same indices within all groups.
// WITHIN: memref<8x3xf32> {morph.inherit = {{\[\[}}array<i64: 1, 2, 0, 1, 3, 4, 2, 3, 5, 6, 4, 5, 7, 8, 6, 7>, array<i64>]], morph.param = "a.weight"}
// WITHIN-SAME: memref<4x4xf32> {morph.inherit = {{\[\[}}array<i64>, array<i64: 1, 2, 0, 1, 3, 4, 2, 3>], affine_map<{{.*}}>], morph.param = "b.weight"}
// WITHIN-SAME: memref<2x4xf32> {morph.param = "c.weight"}

// INPUT: error: layer 'a', iterator 'ci': its dimension is tied to the network's input through layer 'a'
// OUTPUT: error: layer 'c', iterator 'co': its dimension is tied to the network's output through layer 'c'
// GROUPED: error: layer 'a', iterator 'co': layer 'b' reads the tied dimension of extent 8 at 'g * 4 + ci': only whole blocks may trade places, and the same indices within all of them (the dimension of a co, scale c, b g and 3 more)
// REPEATED: argument 'order': expected each index from 0 to 7 of iterator 'co' once, got 6 2 times

func.func @main(%x: memref<3xf32> {morph.input = 0 : i64}, %wa: memref<8x3xf32> {morph.param = "a.weight"},
                %g: memref<8xf32> {morph.param = "g"}, %wb: memref<4x8xf32> {morph.param = "b.weight"},
                %wc: memref<2x4xf32> {morph.param = "c.weight"}, %y: memref<2xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 3 {
      %0 = affine.load %x[%ci] : memref<3xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x3xf32>
      %2 = affine.load %t[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  %u = memref.alloc() : memref<8xf32>
  affine.for %c = 0 to 8 {
    %0 = affine.load %t[%c] : memref<8xf32>
    %1 = affine.load %g[%c] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %u[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  %v = memref.alloc() : memref<4xf32>
  affine.for %co = 0 to 4 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %u[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<4x8xf32>
      %2 = affine.load %v[%co] : memref<4xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %v[%co] : memref<4xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  affine.for %co = 0 to 2 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %v[%ci] : memref<4xf32>
      %1 = affine.load %wc[%co, %ci] : memref<2x4xf32>
      %2 = affine.load %y[%co] : memref<2xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<2xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "c", morph.role = "main"}
  return
}
