// RUN: loopmorph-opt %s -p 'morph-spread-rows{width=16}' | FileCheck %s

// Rows of 4 KiB that a product reads side by side; those of its result and those that no sum runs along stay.
// CHECK-LABEL: func.func @main
// CHECK:         %[[T:.*]] = memref.alloc() : memref<8x1040xf32>
// CHECK:         memref.alloc() : memref<8x1024xf32>
// CHECK:         affine.store %{{.*}}, %[[T]][%{{.*}}, %{{.*}}] : memref<8x1040xf32>
// CHECK:         affine.load %[[T]][%{{.*}}, %{{.*}}] : memref<8x1040xf32>
func.func @main(%x: memref<8x1024xf32>, %w: memref<4x1024xf32>, %y: memref<8x4xf32>, %z: memref<8x1024xf32>) {
  %t = memref.alloc() : memref<8x1024xf32>
  %u = memref.alloc() : memref<8x1024xf32>
  affine.for %n = 0 to 8 {
    affine.for %c = 0 to 1024 {
      %v = affine.load %x[%n, %c] : memref<8x1024xf32>
      affine.store %v, %t[%n, %c] : memref<8x1024xf32>
      affine.store %v, %u[%n, %c] : memref<8x1024xf32>
    }
  }
  affine.for %n = 0 to 8 {
    affine.for %c = 0 to 1024 {
      %v = affine.load %u[%n, %c] : memref<8x1024xf32>
      affine.store %v, %z[%n, %c] : memref<8x1024xf32>
    }
  }
  affine.for %n = 0 to 8 {
    affine.for %c = 0 to 4 {
      affine.for %d = 0 to 1024 {
        %a = affine.load %t[%n, %d] : memref<8x1024xf32>
        %b = affine.load %w[%c, %d] : memref<4x1024xf32>
        %s = affine.load %y[%n, %c] : memref<8x4xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %s, %p : f32
        affine.store %r, %y[%n, %c] : memref<8x4xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}
