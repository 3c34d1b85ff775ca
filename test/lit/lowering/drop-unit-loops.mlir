// RUN: loopmorph-opt %s -p 'morph-drop-unit-loops' | FileCheck %s

// `co`, beside `g` on the axis of the channels, goes; `n`, outermost, and `kh`, on another axis, stay.
// CHECK: affine.for %[[N:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[G:.*]] = 0 to 8 {
// CHECK-NEXT: affine.for %[[H:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[KH:.*]] = 0 to 1 {
// CHECK-NEXT: affine.load %{{.*}}[%[[N]], %[[G]], %[[H]] + %[[KH]]]
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[N]], %[[G]], %[[H]]]
// CHECK-NOT: morph.iter = "co"
func.func @f(%x: memref<1x8x4xf32>, %y: memref<1x8x4xf32>) {
  affine.for %n = 0 to 1 {
    affine.for %g = 0 to 8 {
      affine.for %co = 0 to 1 {
        affine.for %h = 0 to 4 {
          affine.for %kh = 0 to 1 {
            %a = affine.load %x[%n, %g + %co, %h + %kh] : memref<1x8x4xf32>
            affine.store %a, %y[%n, %g + %co, %h] : memref<1x8x4xf32>
          } {morph.iter = "kh"}
        } {morph.iter = "oh"}
      } {morph.iter = "co"}
    } {morph.iter = "g"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
