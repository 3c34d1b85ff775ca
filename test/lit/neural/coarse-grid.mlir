// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=oh factor=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=oh factor=2},morph-bottleneck{layer=a iter=ow factor=3}' | FileCheck %s --check-prefix=BOTH
// RUN: loopmorph-opt %s -p 'morph-split{layer=a iter=oh factor=2},morph-bottleneck{layer=a iter=oh.0 factor=2}' | FileCheck %s --check-prefix=BANDS
// RUN: loopmorph-opt %s -p 'morph-split{layer=a iter=oh factor=4},morph-bottleneck{layer=a iter=oh.1 factor=2}' | FileCheck %s --check-prefix=WITHIN
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=oh factor=2},morph-bottleneck{layer=a iter=oh factor=2}' | FileCheck %s --check-prefix=TWICE

// The result of half as many rows is a memref of its own; start values and bias follow; the reader sees all rows.
// CHECK: %[[W:[a-z0-9]+]]: memref<3xf32> {morph.param = "a.weight"}
// CHECK: %[[T:.*]] = memref.alloc() : memref<2x8x6xf32>
// CHECK: %[[C:.*]] = memref.alloc() : memref<2x4x6xf32>
// CHECK: affine.for %{{.*}} = 0 to 2 {
// CHECK: affine.for %{{.*}} = 0 to 4 {
// CHECK: affine.store %{{.*}}, %[[C]]
// CHECK: morph.role = "init"
// CHECK: affine.for %[[N:.*]] = 0 to 2 {
// CHECK: affine.for %[[OH:.*]] = 0 to 4 {
// CHECK: affine.for %[[OW:.*]] = 0 to 6 {
// CHECK: affine.for %[[KH:.*]] = 0 to 3 {
// CHECK: affine.load %{{.*}}[%[[N]], %[[OH]] * 2 + %[[KH]], %[[OW]]] : memref<2x10x6xf32>
// CHECK: affine.load %[[W]][%[[KH]]] : memref<3xf32>
// CHECK: affine.load %[[C]][%[[N]], %[[OH]], %[[OW]]] : memref<2x4x6xf32>
// CHECK: affine.store %{{.*}}, %[[C]][%[[N]], %[[OH]], %[[OW]]] : memref<2x4x6xf32>
// CHECK: morph.role = "main"
// CHECK: affine.for %[[N:.*]] = 0 to 2 {
// CHECK: affine.for %[[H:.*]] = 0 to 8 {
// CHECK: affine.for %[[W2:.*]] = 0 to 6 {
// CHECK: %[[V:.*]] = affine.load %[[C]][%[[N]], %[[H]] floordiv 2, %[[W2]]] : memref<2x4x6xf32>
// CHECK: affine.store %[[V]], %[[T]][%[[N]], %[[H]], %[[W2]]] : memref<2x8x6xf32>
// CHECK: {morph.iter = "ow"}
// CHECK: {morph.iter = "oh"}
// CHECK: {morph.iter = "n", morph.layer = "a", morph.node = "conv", morph.role = "expand"}
// CHECK-NOT: memref<2x4x6xf32>
// CHECK: affine.load %[[T]]
// CHECK: morph.layer = "relu"

// The second axis changes the nest that is there.
// BOTH: memref.alloc() : memref<2x8x6xf32>
// BOTH: %[[C:.*]] = memref.alloc() : memref<2x4x2xf32>
// BOTH-NOT: memref.alloc
// BOTH: affine.load %{{.*}}[%{{.*}}, %{{.*}} * 2 + %{{.*}}, %{{.*}} * 3] : memref<2x10x6xf32>
// BOTH: morph.role = "main"
// BOTH: affine.load %[[C]][%{{.*}}, %{{.*}} floordiv 2, %{{.*}} floordiv 3] : memref<2x4x2xf32>
// BOTH: morph.role = "expand"
// BOTH-NOT: "expand"

// Whole bands of 2 rows are repeated: rows 0, 1, 4, 5 are computed.
// BANDS: affine.store %{{.*}}, %[[C:.*]][%{{.*}}, %{{.*}}, %{{.*}}] : memref<2x4x6xf32>
// BANDS: morph.role = "init"
// BANDS: affine.for %{{.*}} = 0 to 2 {
// BANDS: affine.for %[[A:.*]] = 0 to 2 {
// BANDS: affine.for %[[B:.*]] = 0 to 2 {
// BANDS: affine.load %{{.*}}[%{{.*}}, %[[A]] * 4 + %[[B]] + %{{.*}}, %{{.*}}] : memref<2x10x6xf32>
// BANDS: affine.store %{{.*}}[%{{.*}}, %[[A]] * 2 + %[[B]], %{{.*}}] : memref<2x4x6xf32>
// BANDS: affine.load %[[C]][%{{.*}}, (%[[H:.*]] floordiv 4) * 2 + %[[H]] mod 2, %{{.*}}] : memref<2x4x6xf32>

// Within each band of 4 rows two are computed.
// WITHIN: morph.role = "init"
// WITHIN: affine.for %{{.*}} = 0 to 2 {
// WITHIN: affine.for %[[A:.*]] = 0 to 2 {
// WITHIN: affine.for %[[B:.*]] = 0 to 2 {
// WITHIN: affine.load %{{.*}}[%{{.*}}, %[[A]] * 4 + %[[B]] * 2 + %{{.*}}, %{{.*}}] : memref<2x10x6xf32>
// WITHIN: affine.store %{{.*}}[%{{.*}}, %[[A]] * 2 + %[[B]], %{{.*}}] : memref<2x4x6xf32>
// WITHIN: affine.load %{{.*}}[%{{.*}}, %{{.*}} floordiv 2, %{{.*}}] : memref<2x4x6xf32>

// TWICE: affine.load %{{.*}}[%{{.*}}, %{{.*}} * 4 + %{{.*}}, %{{.*}}] : memref<2x10x6xf32>
// TWICE: affine.load %{{.*}}[%{{.*}}, %{{.*}} floordiv 4, %{{.*}}] : memref<2x2x6xf32>

func.func @main(%x: memref<2x10x6xf32> {morph.input = 0 : i64}, %w: memref<3xf32> {morph.param = "a.weight"},
                %y: memref<2x8x6xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloc() : memref<2x8x6xf32>
  affine.for %n = 0 to 2 {
    affine.for %h = 0 to 8 {
      affine.for %v = 0 to 6 {
        affine.store %zero, %t[%n, %h, %v] : memref<2x8x6xf32>
      } {morph.iter = "w"}
    } {morph.iter = "h"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "init"}
  affine.for %n = 0 to 2 {
    affine.for %oh = 0 to 8 {
      affine.for %ow = 0 to 6 {
        affine.for %kh = 0 to 3 {
          %0 = affine.load %x[%n, %oh + %kh, %ow] : memref<2x10x6xf32>
          %1 = affine.load %w[%kh] : memref<3xf32>
          %2 = affine.load %t[%n, %oh, %ow] : memref<2x8x6xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %t[%n, %oh, %ow] : memref<2x8x6xf32>
        } {morph.iter = "kh"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "n", morph.layer = "a", morph.node = "conv", morph.role = "main"}
  affine.for %n = 0 to 2 {
    affine.for %h = 0 to 8 {
      affine.for %v = 0 to 6 {
        %0 = affine.load %t[%n, %h, %v] : memref<2x8x6xf32>
        %1 = arith.maximumf %0, %zero : f32
        affine.store %1, %y[%n, %h, %v] : memref<2x8x6xf32>
      } {morph.iter = "w"}
    } {morph.iter = "h"}
  } {morph.iter = "n", morph.layer = "relu", morph.role = "main"}
  return
}
