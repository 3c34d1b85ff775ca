// Memrefs that never live at once share their place in the scratch argument.
// RUN: loopmorph-opt %s -p 'morph-plan-scratch' | FileCheck %s

// CHECK-LABEL: func.func @run
// CHECK-SAME: %[[S:[a-z0-9]+]]: memref<576xi8> {morph.scratch}
// CHECK-SAME: memref<8xf32> {morph.output = 0 : i64}
// CHECK-NOT: memref.alloc
// CHECK: %[[ZERO:.+]] = arith.constant 512 : index
// CHECK: memref.view %[[S]][%[[ZERO]]][] : memref<576xi8> to memref<8xf32>
// CHECK: %[[MIDDLE:.+]] = arith.constant 0 : index
// CHECK: memref.view %[[S]][%[[MIDDLE]]][] : memref<576xi8> to memref<128xf32>
// CHECK: %[[AGAIN:.+]] = arith.constant 512 : index
// CHECK: memref.view %[[S]][%[[AGAIN]]][] : memref<576xi8> to memref<8xf32>
func.func @run(%x: memref<8xf32> {morph.input = 0 : i64}, %y: memref<8xf32> {morph.output = 0 : i64}) {
  %a = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    affine.store %0, %a[%i] : memref<8xf32>
  }
  %b = memref.alloc() : memref<128xf32>
  affine.for %i = 0 to 128 {
    %0 = affine.load %a[%i floordiv 16] : memref<8xf32>
    affine.store %0, %b[%i] : memref<128xf32>
  }
  %c = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %b[%i * 16] : memref<128xf32>
    affine.store %0, %c[%i] : memref<8xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %c[%i] : memref<8xf32>
    affine.store %0, %y[%i] : memref<8xf32>
  }
  return
}
