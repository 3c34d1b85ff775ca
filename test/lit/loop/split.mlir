// RUN: loopmorph-opt %s -p 'morph-split{layer=conv1 iter=ow factor=5}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-split{layer=conv1 iter=ow factor=4}' | FileCheck %s --check-prefix=REST
// RUN: loopmorph-opt %s -p 'morph-split{layer=conv1 iter=ow factor=10},morph-split{layer=conv1 iter=ow.1 factor=2}' \
// RUN:   | FileCheck %s --check-prefix=TWICE

// CHECK: affine.for %[[OH:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[O:.*]] = 0 to 6 {
// CHECK-NEXT: affine.for %[[I:.*]] = 0 to 5 {
// CHECK-NEXT: affine.load %{{.*}}[%[[OH]], %[[O]] * 5 + %[[I]]] : memref<4x30xf32>
// CHECK-NEXT: affine.store %{{.*}}, %{{.*}}[%[[O]] * 5 + %[[I]], %[[OH]]] : memref<30x4xf32>
// CHECK-NEXT: } {morph.iter = "ow.1"}
// CHECK-NEXT: } {morph.iter = "ow.0"}
// CHECK-NEXT: } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}

// REST: affine_map<(d0) -> (4, d0 * -4 + 30)>
// REST: affine.for %[[O:.*]] = 0 to 8 {
// REST-NEXT: affine.for %{{.*}} = 0 to min #{{.*}}(%[[O]]) {

// TWICE: affine.for %[[O:.*]] = 0 to 3 {
// TWICE-NEXT: affine.for %[[M:.*]] = 0 to 5 {
// TWICE-NEXT: affine.for %[[I:.*]] = 0 to 2 {
// TWICE-NEXT: affine.load %{{.*}}[%{{.*}}, %[[O]] * 10 + %[[M]] * 2 + %[[I]]]
// TWICE: {morph.iter = "ow.1.1"}
// TWICE-NEXT: {morph.iter = "ow.1.0"}
// TWICE-NEXT: {morph.iter = "ow.0"}
func.func @f(%x: memref<4x30xf32>, %y: memref<30x4xf32>) {
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 30 {
      %a = affine.load %x[%i, %j] : memref<4x30xf32>
      affine.store %a, %y[%j, %i] : memref<30x4xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}
