// RUN: loopmorph-opt %s -p 'morph-fuse{layer=conv1 iters=oh,ow}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-split{layer=conv1 iter=ow factor=5},morph-fuse{layer=conv1 iters=ow.0,ow.1}' \
// RUN:   | FileCheck %s --check-prefix=BACK

// CHECK: affine.for %[[F:.*]] = 0 to 120 {
// CHECK-NEXT: affine.load %{{.*}}[%[[F]] floordiv 30, %[[F]] mod 30] : memref<4x30xf32>
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[F]] mod 30, %[[F]] floordiv 30] : memref<30x4xf32>
// CHECK-NEXT: } {morph.iter = "oh_ow", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}

// BACK: affine.for %[[OH:.*]] = 0 to 4 {
// BACK-NEXT: affine.for %[[OW:.*]] = 0 to 30 {
// BACK-NEXT: affine.load %{{.*}}[%[[OH]], %[[OW]]] : memref<4x30xf32>
func.func @f(%x: memref<4x30xf32>, %y: memref<30x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 30 {
      %a = affine.load %x[%i, %j] : memref<4x30xf32>
      affine.store %a, %y[%j, %i] : memref<30x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
