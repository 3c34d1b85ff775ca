// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=oh,ci factor=2}' | FileCheck %s --check-prefix=SLICES
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=oh factor=4}' | FileCheck %s --check-prefix=BANDS
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=oh factor=4},morph-group{layer=a iters=oh factor=2}' | FileCheck %s --check-prefix=TWICE
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=oh factor=4},morph-group{layer=a iters=co,ci factor=2}' | FileCheck %s --check-prefix=GROUPED
// RUN: loopmorph-opt %s -p 'morph-split{layer=a iter=oh factor=2},morph-group{layer=a iters=oh.0,ci factor=2}' | FileCheck %s --check-prefix=SPLIT

// Band g reads slice g of the input with the slice of the weight that belongs to it; the weight keeps its shape.
// SLICES: %[[W:[a-z0-9]+]]: memref<4x6xf32> {morph.param = "a.weight"}
// SLICES: affine.for %[[G:.*]] = 0 to 2 {
// SLICES: affine.for %[[CO:.*]] = 0 to 4 {
// SLICES: affine.for %[[OH:.*]] = 0 to 4 {
// SLICES: affine.for %[[CI:.*]] = 0 to 3 {
// SLICES: affine.load %{{.*}}[%{{.*}}, %[[G]] * 3 + %[[CI]], %[[G]] * 4 + %[[OH]]] : memref<1x6x8xf32>
// SLICES: affine.load %[[W]][%[[CO]], %[[G]] * 3 + %[[CI]]] : memref<4x6xf32>
// SLICES: affine.store %{{.*}}[%{{.*}}, %[[CO]], %[[G]] * 4 + %[[OH]]] : memref<1x4x8xf32>
// SLICES: {morph.iter = "ci"}
// SLICES: {morph.iter = "oh"}
// SLICES: {morph.iter = "co"}
// SLICES: {morph.iter = "g"}

// Each band has weights of its own, which all inherit the old ones.
// BANDS: %[[W:[a-z0-9]+]]: memref<4x4x6xf32> {morph.inherit = affine_map<(d0, d1, d2) -> (d1, d2)>, morph.param = "a.weight"}
// BANDS: affine.for %[[G:.*]] = 0 to 4 {
// BANDS: affine.for %[[CO:.*]] = 0 to 4 {
// BANDS: affine.for %[[OH:.*]] = 0 to 2 {
// BANDS: affine.for %[[CI:.*]] = 0 to 6 {
// BANDS: affine.load %{{.*}}[%{{.*}}, %[[CI]], %[[G]] * 2 + %[[OH]]] : memref<1x6x8xf32>
// BANDS: affine.load %[[W]][%[[G]], %[[CO]], %[[CI]]] : memref<4x4x6xf32>
// BANDS-NOT: memref<4x6xf32>

// TWICE: memref<2x4x4x6xf32> {morph.inherit = affine_map<(d0, d1, d2, d3) -> (d2, d3)>
// TWICE: affine.load %{{.*}}[%[[G1:[a-z0-9]+]], %[[G:[a-z0-9]+]], %{{.*}}, %{{.*}}] : memref<2x4x4x6xf32>
// TWICE: morph.iter = "g"}
// TWICE: morph.iter = "g1"}

// GROUPED: memref<4x4x3xf32> {morph.inherit = affine_map<(d0, d1, d2) -> (d1, d2 + (d1 floordiv 2) * 3)>
// GROUPED: affine.load %{{.*}}[%[[G:[a-z0-9]+]], %{{.*}} * 2 + %{{.*}}, %{{.*}}] : memref<4x4x3xf32>

// SPLIT: affine.for %[[G:.*]] = 0 to 2 {
// SPLIT: affine.for %{{.*}} = 0 to 4 {
// SPLIT: affine.for %[[A:.*]] = 0 to 2 {
// SPLIT: affine.for %[[B:.*]] = 0 to 2 {
// SPLIT: affine.load %{{.*}}[%{{.*}}, %[[G]] * 3 + %{{.*}}, %[[G]] * 4 + %[[A]] * 2 + %[[B]]] : memref<1x6x8xf32>

func.func @main(%x: memref<1x6x8xf32> {morph.input = 0 : i64}, %w: memref<4x6xf32> {morph.param = "a.weight"},
                %y: memref<1x4x8xf32> {morph.output = 0 : i64}) {
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 4 {
      affine.for %oh = 0 to 8 {
        affine.for %ci = 0 to 6 {
          %0 = affine.load %x[%n, %ci, %oh] : memref<1x6x8xf32>
          %1 = affine.load %w[%co, %ci] : memref<4x6xf32>
          %2 = affine.load %y[%n, %co, %oh] : memref<1x4x8xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %y[%n, %co, %oh] : memref<1x4x8xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
