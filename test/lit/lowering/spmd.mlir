// RUN: loopmorph-opt %s -p 'morph-spmd{threads=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-spmd{threads=3}' | FileCheck %s --check-prefix=THREE
// RUN: not loopmorph-opt %s -p 'morph-spmd{threads=1}' 2>&1 | FileCheck %s --check-prefix=ONE

// ONE: argument 'threads': expected at least 2, got 1

// CHECK: #[[LOW:.*]] = affine_map<(d0) -> (d0 * 4)>
// CHECK: #[[HIGH:.*]] = affine_map<(d0) -> (d0 * 4 + 4)>
// CHECK: #[[FIRST:.*]] = affine_map<(d0) -> (d0 * 6)>
// CHECK: llvm.func @morph.barrier(
// CHECK: func.func @run(%[[T:.*]]: index {morph.thread}, %[[TEAM:.*]]: i64 {morph.team}, %{{.*}}: memref<8x6xf32> {morph.input = 0 : i64}
// CHECK: affine.for %{{.*}} = #[[LOW]](%[[T]]) to #[[HIGH]](%[[T]]) {
// CHECK-NEXT: affine.for %{{.*}} = 0 to 6 {
// CHECK-NOT: llvm.call
// CHECK: affine.for %{{.*}} = 0 to 6 {
// CHECK-NEXT: affine.for %{{.*}} = #[[LOW]](%[[T]]) to #[[HIGH]](%[[T]]) {
// CHECK: llvm.call @morph.barrier(%[[TEAM]])
// CHECK-NEXT: affine.for %{{.*}} = #[[FIRST]](%[[T]]) to 6 {
// CHECK-NOT: morph.parallel
// CHECK: return

// THREE: affine_map<(d0) -> ((d0 * 8) floordiv 3)>
// THREE: affine_map<(d0) -> (((d0 + 1) * 8) floordiv 3)>
func.func @run(%x: memref<8x6xf32> {morph.input = 0}, %t: memref<6x8xf32> {morph.packed = 0},
               %u: memref<8x6xf32> {morph.packed = 1}, %y: memref<6xf32> {morph.output = 0}) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 6 {
      %a = affine.load %x[%i, %j] : memref<8x6xf32>
      affine.store %a, %t[%j, %i] : memref<6x8xf32>
    } {morph.iter = "j"}
  } {morph.iter = "i", morph.parallel}
  // Each thread reads what it wrote itself.
  affine.for %j = 0 to 6 {
    affine.for %i = 0 to 8 {
      %a = affine.load %t[%j, %i] : memref<6x8xf32>
      affine.store %a, %u[%i, %j] : memref<8x6xf32>
    } {morph.iter = "i", morph.parallel}
  } {morph.iter = "j"}
  affine.for %j = 0 to 6 {
    %a = affine.load %u[7, %j] : memref<8x6xf32>
    affine.store %a, %y[%j] : memref<6xf32>
  } {morph.iter = "j"}
  return
}
