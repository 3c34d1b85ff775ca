// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2}' | FileCheck %s
// RUN: loopmorph-opt %s --transform narrower-stream --set layer=a | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=ci factor=4}' | FileCheck %s --check-prefix=SLICE

// A network x -> a -> scale by g -> b -> y: halving a's outputs halves the scale, b's inputs, and nothing else.

// CHECK: module attributes {morph.schedule = ["morph-bottleneck{layer=a iter=co factor=2}"]}
// CHECK: func.func @main(%[[X:.*]]: memref<16xf32> {morph.input = 0 : i64}, %[[WA:.*]]: memref<32x16xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1)>, morph.param = "a.weight"}, %[[G:.*]]: memref<32xf32> {{.*}}morph.param = "g"}, %[[WB:.*]]: memref<8x32xf32> {{.*}}morph.param = "b.weight"}, %[[Y:.*]]: memref<8xf32> {morph.output = 0 : i64})
// CHECK: %[[T:.*]] = memref.alloc() : memref<32xf32>
// CHECK: affine.for %[[CO:.*]] = 0 to 32 {
// CHECK: affine.for %[[CI:.*]] = 0 to 16 {
// CHECK: affine.load %[[WA]][%[[CO]], %[[CI]]] : memref<32x16xf32>
// CHECK: affine.store %{{.*}}, %[[T]][%[[CO]]] : memref<32xf32>
// CHECK: morph.layer = "a"
// CHECK: affine.for %{{.*}} = 0 to 32 {
// CHECK: morph.layer = "scale"
// CHECK: affine.for %{{.*}} = 0 to 8 {
// CHECK: affine.for %{{.*}} = 0 to 32 {
// CHECK: affine.load %[[WB]][%{{.*}}, %{{.*}}] : memref<8x32xf32>
// CHECK: morph.layer = "b"
// CHECK-NOT: 64

// On a reduction the layer reads the head of its input; the input itself stays as it is.
// SLICE: %[[WB:.*]]: memref<8x16xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1)>, morph.param = "b.weight"}
// SLICE: memref.alloc() : memref<64xf32>
// SLICE: %[[U:.*]] = memref.alloc() : memref<64xf32>
// SLICE: affine.for %{{.*}} = 0 to 8 {
// SLICE: affine.for %[[CI:.*]] = 0 to 16 {
// SLICE: affine.load %[[U]][%[[CI]]] : memref<64xf32>
// SLICE: morph.layer = "b"

func.func @main(%x: memref<16xf32> {morph.input = 0 : i64}, %wa: memref<64x16xf32> {morph.param = "a.weight"},
                %g: memref<64xf32> {morph.param = "g"}, %wb: memref<8x64xf32> {morph.param = "b.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<64xf32>
  affine.for %co = 0 to 64 {
    affine.for %ci = 0 to 16 {
      %0 = affine.load %x[%ci] : memref<16xf32>
      %1 = affine.load %wa[%co, %ci] : memref<64x16xf32>
      %2 = affine.load %t[%co] : memref<64xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<64xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  %u = memref.alloc() : memref<64xf32>
  affine.for %c = 0 to 64 {
    %0 = affine.load %t[%c] : memref<64xf32>
    %1 = affine.load %g[%c] : memref<64xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %u[%c] : memref<64xf32>
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 64 {
      %0 = affine.load %u[%ci] : memref<64xf32>
      %1 = affine.load %wb[%co, %ci] : memref<8x64xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}
