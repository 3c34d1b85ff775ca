// RUN: loopmorph-opt %s -p 'morph-time-layers' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-spmd{threads=2},morph-time-layers' | FileCheck %s --check-prefix=TEAM
// RUN: sed 's/@run/@other/' %s > %t.mlir
// RUN: not loopmorph-opt %t.mlir -p 'morph-time-layers' 2>&1 | FileCheck %s --check-prefix=OTHER

// OTHER: module: morph-time-layers needs a function @run; morph-split-prepare makes it

// CHECK: func.func @run(%{{.*}}: memref<8xf32> {morph.input = 0 : i64}, %{{.*}}, %[[CLOCK:.*]]: memref<4xi64> {morph.clock = ["conv1", "relu", "conv1"]})
// CHECK-NEXT: %[[T0:.*]] = llvm.call_intrinsic "llvm.read{{cycle|steady}}counter"() : () -> i64
// CHECK-NEXT: affine.store %[[T0]], %[[CLOCK]][0]
// CHECK: morph.role = "init"
// CHECK-NOT: llvm.call_intrinsic
// CHECK: morph.parallel
// CHECK-NEXT: %[[T1:.*]] = llvm.call_intrinsic
// CHECK-NEXT: affine.store %[[T1]], %[[CLOCK]][1]
// CHECK: morph.layer = "relu"
// CHECK-NEXT: %[[T2:.*]] = llvm.call_intrinsic
// CHECK-NEXT: affine.store %[[T2]], %[[CLOCK]][2]
// CHECK: morph.role = "epilogue"
// CHECK-NEXT: %[[T3:.*]] = llvm.call_intrinsic
// CHECK-NEXT: affine.store %[[T3]], %[[CLOCK]][3]
// CHECK-NEXT: return

// Of several threads the first one stores, after the wait for the layer before.
// TEAM: func.func @run(%[[T:.*]]: index {morph.thread}, %{{.*}}: i64 {morph.team}
// TEAM: llvm.call @morph.barrier
// TEAM-NEXT: affine.for
// TEAM: llvm.call @morph.barrier
// TEAM-NEXT: %[[ZERO:.*]] = arith.constant 0 : index
// TEAM-NEXT: %[[FIRST:.*]] = arith.cmpi eq, %[[T]], %[[ZERO]]
// TEAM-NEXT: scf.if %[[FIRST]] {
// TEAM-NEXT: llvm.call_intrinsic
// TEAM-NEXT: affine.store
// TEAM-NEXT: }
// TEAM: return
func.func @run(%x: memref<8xf32> {morph.input = 0}, %t: memref<8xf32> {morph.packed = 0},
               %y: memref<8xf32> {morph.output = 0}) {
  affine.for %i = 0 to 8 {
    %a = affine.load %x[%i] : memref<8xf32>
    affine.store %a, %t[%i] : memref<8xf32>
  } {morph.iter = "i", morph.layer = "conv1", morph.role = "init"}
  affine.for %i = 0 to 8 {
    %a = affine.load %t[%i] : memref<8xf32>
    affine.store %a, %y[%i] : memref<8xf32>
  } {morph.iter = "i", morph.layer = "conv1", morph.parallel, morph.role = "main"}
  affine.for %i = 0 to 8 {
    %a = affine.load %y[7 - %i] : memref<8xf32>
    affine.store %a, %t[%i] : memref<8xf32>
  } {morph.iter = "i", morph.layer = "relu", morph.role = "main"}
  affine.for %i = 0 to 8 {
    %a = affine.load %t[7 - %i] : memref<8xf32>
    affine.store %a, %y[%i] : memref<8xf32>
  } {morph.iter = "i", morph.layer = "conv1", morph.role = "epilogue"}
  return
}
