// RUN: loopmorph-opt %s -p 'morph-turn-rows{width=8}' | FileCheck %s

// A product over tokens: its result turns, with the nests that start and read it; the one after it turns then, too.
// CHECK-LABEL: func.func @main
// CHECK:         %[[Y:.*]] = memref.alloc() : memref<6x16xf32>
// CHECK:         %[[Z:.*]] = memref.alloc() : memref<8x16xf32>
// CHECK:         memref.alloc() : memref<16x6xf32>
// CHECK:         affine.store %{{.*}}, %[[Y]][%[[C:.*]], %[[N:.*]]] : memref<6x16xf32>
// CHECK:         affine.for %[[N:.*]] = 0 to 16 {
// CHECK-NEXT:      affine.for %[[CO:.*]] = 0 to 6 {
// CHECK:             affine.load %{{.*}}[%{{.*}}, %[[N]]] : memref<5x16xf32>
// CHECK:             affine.store %{{.*}}, %[[Y]][%[[CO]], %[[N]]] : memref<6x16xf32>
// CHECK:         affine.for %[[N:.*]] = 0 to 16 {
// CHECK-NEXT:      affine.for %[[CO:.*]] = 0 to 8 {
// CHECK:             affine.store %{{.*}}, %[[Z]][%[[CO]], %[[N]]] : memref<8x16xf32>
// CHECK:         affine.load %[[Z]][%[[W:.*]], %[[H:.*]]] : memref<8x16xf32>
// CHECK-NEXT:    affine.store %{{.*}}, %{{.*}}[%[[H]], %[[W]]] : memref<16x8xf32>
func.func @main(%x: memref<5x16xf32>, %w: memref<6x5xf32>, %b: memref<6xf32>, %v: memref<8x6xf32>, %o: memref<16x8xf32>) {
  %y = memref.alloc() : memref<16x6xf32>
  %z = memref.alloc() : memref<16x8xf32>
  %t = memref.alloc() : memref<16x6xf32>
  affine.for %n = 0 to 16 {
    affine.for %c = 0 to 6 {
      %0 = affine.load %b[%c] : memref<6xf32>
      affine.store %0, %y[%n, %c] : memref<16x6xf32>
      affine.store %0, %t[%n, %c] : memref<16x6xf32>
    }
  }
  affine.for %n = 0 to 16 {
    affine.for %co = 0 to 6 {
      affine.for %ci = 0 to 5 {
        %0 = affine.load %x[%ci, %n] : memref<5x16xf32>
        %1 = affine.load %w[%co, %ci] : memref<6x5xf32>
        %2 = affine.load %y[%n, %co] : memref<16x6xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %y[%n, %co] : memref<16x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  affine.for %n = 0 to 16 {
    affine.for %co = 0 to 8 {
      affine.for %ci = 0 to 6 {
        %0 = affine.load %y[%n, %ci] : memref<16x6xf32>
        %1 = affine.load %v[%co, %ci] : memref<8x6xf32>
        %2 = affine.load %z[%n, %co] : memref<16x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %z[%n, %co] : memref<16x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "b", morph.role = "main"}
  affine.for %h = 0 to 16 {
    affine.for %w1 = 0 to 8 {
      %0 = affine.load %z[%h, %w1] : memref<16x8xf32>
      affine.store %0, %o[%h, %w1] : memref<16x8xf32>
    }
  }
  return
}

// These stay: 12 values along the operand's row are no whole vectors; the second operand of the other has rows along
// the result's.
// CHECK-LABEL: func.func @stay
// CHECK:         memref.alloc() : memref<12x6xf32>
// CHECK:         memref.alloc() : memref<16x8xf32>
func.func @stay(%x: memref<5x12xf32>, %w: memref<6x5xf32>, %u: memref<5x16xf32>, %v: memref<5x8xf32>) {
  %y = memref.alloc() : memref<12x6xf32>
  %z = memref.alloc() : memref<16x8xf32>
  affine.for %n = 0 to 12 {
    affine.for %co = 0 to 6 {
      affine.for %ci = 0 to 5 {
        %0 = affine.load %x[%ci, %n] : memref<5x12xf32>
        %1 = affine.load %w[%co, %ci] : memref<6x5xf32>
        %2 = affine.load %y[%n, %co] : memref<12x6xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %y[%n, %co] : memref<12x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "c", morph.role = "main"}
  affine.for %n = 0 to 16 {
    affine.for %co = 0 to 8 {
      affine.for %ci = 0 to 5 {
        %0 = affine.load %u[%ci, %n] : memref<5x16xf32>
        %1 = affine.load %v[%ci, %co] : memref<5x8xf32>
        %2 = affine.load %z[%n, %co] : memref<16x8xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %z[%n, %co] : memref<16x8xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "d", morph.role = "main"}
  return
}
