// RUN: loopmorph-opt %s -p 'morph-align-groups{width=4}' | FileCheck %s

// Two groups of 6 output channels: 4 of the first, 2 of each, 4 of the second.
// CHECK: affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 3 {
// CHECK-NEXT: affine.load %[[X:.*]][%{{.*}}, %[[CI]]]
// CHECK-NEXT: affine.load %[[W:.*]][%[[C]], %[[CI]]]
// CHECK: affine.store %{{.*}}, %[[Y:.*]][%{{.*}}, %[[C]]]
// CHECK: morph.layer = "a", morph.role = "main"}
// CHECK: affine.for %[[D:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[CJ:.*]] = 0 to 3 {
// CHECK-NEXT: affine.load %[[X]][%{{.*}}, {{.*}}floordiv{{.*}}]
// CHECK-NEXT: affine.load %[[W]][%[[D]] + 4, %[[CJ]]]
// CHECK: affine.store %{{.*}}, %[[Y]][%{{.*}}, %[[D]] + 4]
// CHECK: morph.layer = "a", morph.role = "main"}
// CHECK: affine.for %[[E:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[CK:.*]] = 0 to 3 {
// CHECK-NEXT: affine.load %[[X]][%{{.*}}, %[[CK]] + 3]
// CHECK-NEXT: affine.load %[[W]][%[[E]] + 8, %[[CK]]]
// CHECK: affine.store %{{.*}}, %[[Y]][%{{.*}}, %[[E]] + 8]
// CHECK: morph.layer = "a", morph.role = "main"}
// CHECK-NOT: affine.for
func.func @f(%x: memref<1x6xf32>, %w: memref<12x3xf32>, %y: memref<1x12xf32>) {
  affine.for %n = 0 to 1 {
    affine.for %g = 0 to 2 {
      affine.for %co = 0 to 6 {
        affine.for %ci = 0 to 3 {
          %a = affine.load %x[%n, %g * 3 + %ci] : memref<1x6xf32>
          %b = affine.load %w[%g * 6 + %co, %ci] : memref<12x3xf32>
          %c = affine.load %y[%n, %g * 6 + %co] : memref<1x12xf32>
          %p = arith.mulf %a, %b : f32
          %s = arith.addf %c, %p : f32
          affine.store %s, %y[%n, %g * 6 + %co] : memref<1x12xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "co"}
    } {morph.iter = "g"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
