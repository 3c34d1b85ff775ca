// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 inherit=mean}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 inherit=mean}' | loopmorph-opt - -p 'morph-bottleneck{layer=a iter=co factor=2 keep=1,3}' | FileCheck %s --check-prefix=THEN
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=ci factor=4 inherit=mean}' | FileCheck %s --check-prefix=SUM
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 keep=1,2,3,7}' | FileCheck %s --check-prefix=KEEP
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 keep=1,2,3,8}' 2>&1 | FileCheck %s --check-prefix=OUTSIDE
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 keep=1,2,2,3}' 2>&1 | FileCheck %s --check-prefix=ORDER
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2 inherit=median}' 2>&1 | FileCheck %s --check-prefix=WORD
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=ci factor=2 keep=0,1,2,7}' 2>&1 | FileCheck %s --check-prefix=SLICE

// A network x -> a -> scale by g -> b -> y. Its producers take the mean of two channels, their reader the sum.

// CHECK: memref<4x3xf32> {morph.inherit = [{mean = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0 + 4, d1)>]}], morph.param = "a.weight"}
// CHECK-SAME: memref<4xf32> {morph.inherit = [{mean = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0 + 4)>]}], morph.param = "g"}
// CHECK-SAME: memref<2x4xf32> {morph.inherit = [{sum = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1 + 4)>]}], morph.param = "b.weight"}
// CHECK: memref.alloc() : memref<4xf32>
// CHECK-NOT: 8xf32

// THEN: memref<2x3xf32> {morph.inherit = [affine_map<(d0, d1) -> (d0 * 2 + 1, d1)>, {mean = [

// The layer reads the head of an input that stays.
// SUM: memref<8x3xf32> {morph.param = "a.weight"}
// SUM-SAME: memref<2x2xf32> {morph.inherit = [{sum = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1 + 2)>, affine_map<(d0, d1) -> (d0, d1 + 4)>, affine_map<(d0, d1) -> (d0, d1 + 6)>]}], morph.param = "b.weight"}

// KEEP: memref<4x3xf32> {morph.inherit = {{\[\[}}array<i64: 1, 4, 7, 8>, array<i64>]], morph.param = "a.weight"}
// KEEP-SAME: memref<2x4xf32> {morph.inherit = {{\[\[}}array<i64>, array<i64: 1, 4, 7, 8>]], morph.param = "b.weight"}

// OUTSIDE: argument 'keep': expected 4 indices from 0 to 7 of iterator 'co', got 4, the last of which is 8
// ORDER: argument 'keep': expected ascending indices from 0 on
// WORD: argument 'inherit': expected slice or mean, got 'median'
// SLICE: error: layer 'b', iterator 'ci': {{.*}}cannot keep 0..2, 7

func.func @main(%x: memref<3xf32> {morph.input = 0 : i64}, %wa: memref<8x3xf32> {morph.param = "a.weight"},
                %g: memref<8xf32> {morph.param = "g"}, %wb: memref<2x8xf32> {morph.param = "b.weight"},
                %y: memref<2xf32> {morph.output = 0 : i64}) {
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
  affine.for %co = 0 to 2 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %u[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<2x8xf32>
      %2 = affine.load %y[%co] : memref<2xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<2xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}
