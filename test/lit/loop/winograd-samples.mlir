// RUN: loopmorph-opt %s -p 'morph-winograd{layer=conv tile=2 samples=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-winograd{layer=conv tile=2 samples=1}' | FileCheck %s --check-prefix=ONE
// RUN: loopmorph-opt %s -p 'morph-winograd{layer=conv tile=2 samples=2},morph-fuse-nests{layer=conv iters=n.0}' \
// RUN:   | FileCheck %s --check-prefix=FUSED
// RUN: not loopmorph-opt %s -p 'morph-winograd{layer=conv tile=2 samples=3}' 2>&1 | FileCheck %s --check-prefix=PART
// RUN: not loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=winograd2 samples=3},morph-default-schedule{width=4}' 2>&1 \
// RUN:   | FileCheck %s --check-prefix=CHOICE
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=winograd2 samples=2},morph-default-schedule{width=4}' \
// RUN:   | FileCheck %s --check-prefix=SCHEDULE
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=winograd2 samples=1},morph-default-schedule{width=4 threads=2}' \
// RUN:   | FileCheck %s --check-prefix=THREADS

// Chunks of two images: transformed data and products have an axis for the chunk, and the tiles of one chunk.
// CHECK: %[[V:.*]] = memref.alloc() : memref<2x16x9x4xf32>
// CHECK: %[[M:.*]] = memref.alloc() : memref<2x8x16x4xf32>
// CHECK: {morph.iter = "ci", morph.layer = "conv", morph.role = "filter-transform"}
// CHECK: affine.load %{{.*}}[%[[N0:.*]] * 2 + %[[N1:.*]], %[[TY:.*]] * 2, %[[TX:.*]] * 2, %[[CI:.*]]] : memref<4x6x6x4xf32>
// CHECK: affine.store %{{.*}}, %[[V]][%[[N0]], 0, (%[[N1]] * 2 + %[[TY]]) * 2 + %[[TX]], %[[CI]]] : memref<2x16x9x4xf32>
// CHECK: {morph.iter = "n.0", morph.layer = "conv", morph.role = "input-transform"}
// CHECK: {morph.iter = "n.0", morph.layer = "conv", morph.role = "init"}
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[P:.*]] = 0 to 16 {
// CHECK-NEXT: affine.for %[[T:.*]] = 0 to 8 {
// CHECK: affine.load %[[V]][%[[C]], %[[P]], %[[T]], %{{.*}}] : memref<2x16x9x4xf32>
// CHECK: affine.store %{{.*}}, %[[M]][%[[C]], %[[T]], %[[P]], %{{.*}}] : memref<2x8x16x4xf32>
// CHECK: {morph.iter = "n.0", morph.layer = "conv", morph.role = "main"}
// CHECK: affine.store %{{.*}}, %{{.*}}[%{{.*}} * 2 + %{{.*}}, %{{.*}} * 2 + 1, %{{.*}} * 2 + 1, %{{.*}}] : memref<4x4x4x4xf32>
// CHECK: {morph.iter = "n.0", morph.layer = "conv", morph.role = "output-transform"}

// One image at a time needs no loop within the chunk.
// ONE: memref.alloc() : memref<4x16x5x4xf32>
// ONE-NOT: "n.1"
// ONE: {morph.iter = "n", morph.layer = "conv", morph.role = "input-transform"}
// ONE: {morph.iter = "n", morph.layer = "conv", morph.role = "output-transform"}

// FUSED: memref.alloc() : memref<16x9x4xf32>
// FUSED: memref.alloc() : memref<8x16x4xf32>
// FUSED: morph.role = "filter-transform"
// FUSED-NOT: input-transform
// FUSED: {morph.iter = "n.0", morph.layer = "conv", morph.role = "main"}
// FUSED-NEXT: return

// PART: argument 'samples': expected a part of the iterations of 'n', 1, 2, got 3
// CHOICE: layer 'conv': 3 images at a time are not possible; accepted are 1, 2, 4

// SCHEDULE: "morph-winograd{layer=conv tile=2 samples=2}"
// SCHEDULE-SAME: morph-choose{layer=conv algorithm=winograd2 block={{.*}} samples=2}
// SCHEDULE-SAME: morph-interchange{layer=conv order=n.0,
// SCHEDULE-SAME: "morph-fuse-nests{layer=conv iters=n.0}"

// Two threads: each has an iteration of the outermost loop, and memory of its own.
// THREADS: "morph-winograd{layer=conv tile=2 samples=1}"
// THREADS-SAME: "morph-split{layer=conv iter=n factor=2}"
// THREADS-SAME: "morph-fuse-nests{layer=conv iters=n.0,n.1}"
// THREADS: memref.alloc() : memref<2x16x5x4xf32>
func.func @main(%x: memref<4x6x6x4xf32>, %w: memref<3x3x4x4xf32> {morph.param = "conv.weight"}, %y: memref<4x4x4x4xf32>) {
  affine.for %n = 0 to 4 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %co = 0 to 4 {
          affine.for %ci = 0 to 4 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%n, %oh + %kh, %ow + %kw, %ci] : memref<4x6x6x4xf32>
                %b = affine.load %w[%kh, %kw, %ci, %co] : memref<3x3x4x4xf32>
                %c = affine.load %y[%n, %oh, %ow, %co] : memref<4x4x4x4xf32>
                %p = arith.mulf %a, %b : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%n, %oh, %ow, %co] : memref<4x4x4x4xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "co"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "n", morph.layer = "conv", morph.role = "main"}
  return
}
