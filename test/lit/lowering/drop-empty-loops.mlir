// RUN: loopmorph-opt %s -p 'morph-drop-empty-loops' | FileCheck %s

// A nest of which nothing is left goes away; of another one, the loop that never runs.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:    affine.for %[[N:.*]] = 0 to 2 {
// CHECK-NEXT:      affine.store %{{.*}}, %{{.*}}[%[[N]]] : memref<2xf32>
// CHECK-NEXT:    } {morph.layer = "b"}
// CHECK-NEXT:    return
func.func @main(%v: f32, %x: memref<2x0xf32>, %y: memref<2xf32>) {
  affine.for %n = 0 to 2 {
    affine.for %c = 0 to 0 {
      affine.for %w = 0 to 3 {
        affine.store %v, %x[%n, %c] : memref<2x0xf32>
      }
    }
  } {morph.layer = "a"}
  affine.for %n = 0 to 2 {
    affine.for %c = 4 to 4 {
      affine.store %v, %x[%n, %c] : memref<2x0xf32>
    }
    affine.store %v, %y[%n] : memref<2xf32>
  } {morph.layer = "b"}
  return
}

// A loop of no iterations leaves what it begins with.
// CHECK-LABEL: func.func @carried
// CHECK-NEXT:    affine.for %[[N:.*]] = 0 to 2 {
// CHECK-NEXT:      affine.store %[[V:.*]], %{{.*}}[%[[N]]]
// CHECK-NEXT:    }
func.func @carried(%v: f32, %y: memref<2xf32>) {
  affine.for %n = 0 to 2 {
    %s = affine.for %c = 0 to 0 iter_args(%a = %v) -> f32 {
      %b = arith.addf %a, %a : f32
      affine.yield %b : f32
    }
    affine.store %s, %y[%n] : memref<2xf32>
  }
  return
}
