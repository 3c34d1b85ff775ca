// RUN: loopmorph-opt %s -p 'morph-peel{layer=fc iter=n size=1}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-interchange{layer=fc order=co,n},morph-peel{layer=fc iter=n size=2}' | FileCheck %s --check-prefix=INNER

// Around the outermost loop another one is put, so that one nest is left.
// CHECK:      affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT:   affine.for %[[N:.*]] = 0 to 4 {
// CHECK-NEXT:     affine.for %[[CO:.*]] = 0 to 6 {
// CHECK-NEXT:       affine.load %{{.*}}[%[[N]], %[[CO]]] : memref<5x6xf32>
// CHECK-NEXT:       affine.store %{{.*}}, %{{.*}}[%[[N]]] : memref<5xf32>
// CHECK-NEXT:     } {morph.iter = "co"}
// CHECK-NEXT:   } {morph.iter = "n"}
// CHECK-NEXT:   affine.for %[[R:.*]] = 0 to 1 {
// CHECK-NEXT:     affine.for %[[C:.*]] = 0 to 6 {
// CHECK-NEXT:       affine.load %{{.*}}[%[[R]] + 4, %[[C]]] : memref<5x6xf32>
// CHECK-NEXT:       affine.store %{{.*}}, %{{.*}}[%[[R]] + 4] : memref<5xf32>
// CHECK-NEXT:     } {morph.iter = "co.rest"}
// CHECK-NEXT:   } {morph.iter = "n.rest"}
// CHECK-NEXT: } {morph.iter = "n.parts", morph.layer = "fc", morph.role = "main"}

// INNER:      affine.for %[[CO:.*]] = 0 to 6 {
// INNER-NEXT:   affine.for %{{.*}} = 0 to 3 {
// INNER:        } {morph.iter = "n"}
// INNER-NEXT:   affine.for %[[R:.*]] = 0 to 2 {
// INNER-NEXT:     affine.load %{{.*}}[%[[R]] + 3, %[[CO]]] : memref<5x6xf32>
// INNER:        } {morph.iter = "n.rest"}
// INNER-NEXT: } {morph.iter = "co", morph.layer = "fc", morph.role = "main"}
func.func @f(%x: memref<5x6xf32>, %y: memref<5xf32>) {
  affine.for %n = 0 to 5 {
    affine.for %c = 0 to 6 {
      %a = affine.load %x[%n, %c] : memref<5x6xf32>
      affine.store %a, %y[%n] : memref<5xf32>
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}
