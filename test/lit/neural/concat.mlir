// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=co factor=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=b iter=co factor=2}' | loopmorph-opt - -p 'morph-narrow{layer=a iter=co begin=2}' | FileCheck %s --check-prefix=TWICE
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=scale iter=c factor=2}' | FileCheck %s --check-prefix=SLICES
// RUN: not loopmorph-opt %s -p 'morph-narrow{layer=scale iter=c begin=4}' 2>&1 | FileCheck %s --check-prefix=EMPTY
// RUN: loopmorph-opt %s -p 'morph-print-coupling' | FileCheck %s --check-prefix=CLASSES

// Two layers a (4 channels) and b (6) are concatenated, scaled by g and read by c. Halving b leaves 4 + 3 channels.

// CHECK: %[[WA:[a-z0-9]+]]: memref<4x8xf32> {morph.param = "a.weight"}
// CHECK-SAME: %[[WB:[a-z0-9]+]]: memref<3x8xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1)>, morph.param = "b.weight"}
// CHECK-SAME: %[[G:[a-z0-9]+]]: memref<7xf32> {morph.inherit = affine_map<(d0) -> (d0)>, morph.param = "g"}
// CHECK-SAME: %[[WC:[a-z0-9]+]]: memref<5x7xf32>
// CHECK: %[[CAT:.*]] = memref.alloc() : memref<7xf32>
// CHECK: affine.for %[[A:.*]] = 0 to 4 {
// CHECK: affine.store %{{.*}}, %[[CAT]][%[[A]]] : memref<7xf32>
// CHECK: affine.for %[[B:.*]] = 0 to 3 {
// CHECK: affine.store %{{.*}}, %[[CAT]][%[[B]] + 4] : memref<7xf32>
// CHECK: affine.for %{{.*}} = 0 to 7 {
// CHECK: morph.layer = "scale"
// CHECK-NOT: memref<10xf32>

// Then the last two channels of a: the slice of b begins at 2.
// TWICE: memref<5xf32> {morph.inherit = affine_map<(d0) -> (d0 + 2)>, morph.param = "g"}
// TWICE: affine.store %{{.*}}, %{{.*}}[%{{.*}} + 2] : memref<5xf32>

// The head of each slice; what is kept of g is no single affine map.
// SLICES: memref<2x8xf32> {{.*}}morph.param = "a.weight"
// SLICES-SAME: memref<3x8xf32> {{.*}}morph.param = "b.weight"
// SLICES-SAME: memref<5xf32> {morph.inherit = {{\[\[}}array<i64: 0, 2, 4, 7>]], morph.param = "g"}
// SLICES-SAME: memref<5x5xf32> {morph.inherit = {{\[\[}}array<i64>, array<i64: 0, 2, 4, 7>]], morph.param = "c.weight"}

// EMPTY: error: layer 'scale', iterator 'c': nothing would be left of iterator 'c' of layer 'cat'

// CLASSES: class 0: extent 4
// CLASSES-NEXT: //   iterators: a co, cat#copy c
// CLASSES-NEXT: //   parameters: a.weight[0]
// CLASSES-NEXT: //   slice: 0..3 of class 3
// CLASSES: class 2: extent 6
// CLASSES: //   slice: 4..9 of class 3
// CLASSES: class 3: extent 10
// CLASSES-NEXT: //   iterators: scale c, c ci
// CLASSES-NEXT: //   parameters: g[0], c.weight[1]

func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %wa: memref<4x8xf32> {morph.param = "a.weight"},
                %wb: memref<6x8xf32> {morph.param = "b.weight"}, %g: memref<10xf32> {morph.param = "g"},
                %wc: memref<5x10xf32> {morph.param = "c.weight"}, %y: memref<5xf32> {morph.output = 0 : i64}) {
  %a = memref.alloc() : memref<4xf32>
  affine.for %co = 0 to 4 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<4x8xf32>
      %2 = affine.load %a[%co] : memref<4xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %a[%co] : memref<4xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  %b = memref.alloc() : memref<6xf32>
  affine.for %co = 0 to 6 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<6x8xf32>
      %2 = affine.load %b[%co] : memref<6xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %b[%co] : memref<6xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  %cat = memref.alloc() : memref<10xf32>
  affine.for %c = 0 to 4 {
    %0 = affine.load %a[%c] : memref<4xf32>
    affine.store %0, %cat[%c] : memref<10xf32>
  } {morph.iter = "c", morph.layer = "cat", morph.role = "copy"}
  affine.for %c = 0 to 6 {
    %0 = affine.load %b[%c] : memref<6xf32>
    affine.store %0, %cat[%c + 4] : memref<10xf32>
  } {morph.iter = "c", morph.layer = "cat", morph.role = "copy"}
  %u = memref.alloc() : memref<10xf32>
  affine.for %c = 0 to 10 {
    %0 = affine.load %cat[%c] : memref<10xf32>
    %1 = affine.load %g[%c] : memref<10xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %u[%c] : memref<10xf32>
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  affine.for %co = 0 to 5 {
    affine.for %ci = 0 to 10 {
      %0 = affine.load %u[%ci] : memref<10xf32>
      %1 = affine.load %wc[%co, %ci] : memref<5x10xf32>
      %2 = affine.load %y[%co] : memref<5xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<5xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "c", morph.role = "main"}
  return
}
