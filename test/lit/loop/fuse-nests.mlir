// RUN: loopmorph-opt %s -p 'morph-fuse-nests{layer=a iters=n}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-split{layer=a#prologue iter=n factor=2},morph-split{layer=a iter=n factor=2},morph-fuse-nests{layer=a iters=n.0,n.1}' \
// RUN:   | FileCheck %s --check-prefix=APART
// RUN: loopmorph-opt %s -p 'morph-split{layer=a#prologue iter=n factor=2},morph-split{layer=a iter=n factor=2},morph-fuse-nests{layer=a iters=n.0,n.1},morph-parallelize{layer=a iter=n.0}' \
// RUN:   | FileCheck %s --check-prefix=THREADS

// The memref between the two nests keeps what one iteration hands on; what stands in between stays ahead of both.
// CHECK: morph.schedule = ["morph-fuse-nests{layer=a iters=n}"]
// CHECK: %[[T:.*]] = memref.alloc() : memref<8xf32>
// CHECK-NEXT: affine.for %{{.*}} = 0 to 4 {
// CHECK:   affine.store {{.*}} : memref<4xf32>
// CHECK: {morph.iter = "i", morph.layer = "b"}
// CHECK-NEXT: affine.for %[[N:.*]] = 0 to 4 {
// CHECK-NEXT:   affine.for %[[C:.*]] = 0 to 8 {
// CHECK-NEXT:     %[[X:.*]] = affine.load %{{.*}}[%[[N]], %[[C]]] : memref<4x8xf32>
// CHECK-NEXT:     affine.store %[[X]], %[[T]][%[[C]]] : memref<8xf32>
// CHECK-NEXT:   } {morph.iter = "c_2"}
// CHECK-NEXT:   affine.for %[[K:.*]] = 0 to 8 {
// CHECK-NEXT:     %[[V:.*]] = affine.load %[[T]][-%[[K]] + 7] : memref<8xf32>
// CHECK-NEXT:     affine.store %[[V]], %{{.*}}[%[[N]], %[[K]]] : memref<4x8xf32>
// CHECK-NEXT:   } {morph.iter = "c"}
// CHECK-NEXT: } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
// CHECK-NEXT: return

// Each iteration of the outer loop has memory of its own.
// APART: memref.alloc() : memref<2x8xf32>
// APART: affine.for %[[A:.*]] = 0 to 2 {
// APART-NEXT: affine.for %[[B:.*]] = 0 to 2 {
// APART: affine.store %{{.*}}, %{{.*}}[%[[A]], %{{.*}}] : memref<2x8xf32>
// APART: affine.load %{{.*}}[%[[A]], -%{{.*}} + 7] : memref<2x8xf32>

// THREADS: {morph.iter = "n.0", morph.layer = "a", morph.parallel, morph.role = "main"}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>, %z: memref<4xf32>) {
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "prologue"}
  affine.for %i = 0 to 4 {
    %zero = arith.constant 0.0 : f32
    affine.store %zero, %z[%i] : memref<4xf32>
  } {morph.iter = "i", morph.layer = "b"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[%n, 7 - %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
