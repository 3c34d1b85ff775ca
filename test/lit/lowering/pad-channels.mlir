// RUN: loopmorph-opt %s -p 'morph-pad-channels{width=4}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-pad-channels{width=3}' | FileCheck %s --check-prefix=WHOLE
// RUN: not loopmorph-opt %s -p 'morph-pad-channels{width=1}' 2>&1 | FileCheck %s --check-prefix=ERROR

// CHECK: morph.padded = ["conv co 6 -> 8"]

// The bias and the weight get copies, of which all lanes repeat the last channel at first; over it come the 4 channels
// that fill a vector and the 2 others.
// CHECK: func.func @main
// CHECK-DAG: %[[Y:.*]] = memref.alloc() : memref<1x8x5x5xf32>
// CHECK-DAG: %[[B:.*]] = memref.alloc() : memref<8xf32>
// CHECK: affine.for %[[I:.*]] = 0 to 8 {
// CHECK-NEXT: affine.load %arg2[5]
// CHECK-NEXT: affine.store %{{.*}}, %[[B]][%[[I]]]
// CHECK-NEXT: {morph.iter = "i0", morph.layer = "conv", morph.node = "convolution", morph.role = "pack"}
// CHECK: affine.for %[[I:.*]] = 0 to 4 {
// CHECK-NEXT: affine.load %arg2[%[[I]]]
// CHECK-NEXT: affine.store %{{.*}}, %[[B]][%[[I]]]
// CHECK: affine.for %[[I:.*]] = 0 to 2 {
// CHECK-NEXT: affine.load %arg2[%[[I]] + 4]
// CHECK-NEXT: affine.store %{{.*}}, %[[B]][%[[I]] + 4]
// CHECK: affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 8 {
// CHECK: affine.load %[[B]][%[[C]]]
// CHECK: {{.*}}morph.role = "init"}
// CHECK: %[[W:.*]] = memref.alloc() : memref<8x3x3x3xf32>
// CHECK: affine.load %arg1[5,

// The sum over the input channels stays, what it adds to has more lanes.
// CHECK: affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 8 {
// CHECK: affine.for %[[CI:.*]] = 0 to 3 {
// CHECK: affine.load %arg0[%{{.*}}, %[[CI]],
// CHECK-NEXT: affine.load %[[W]][%[[C]], %[[CI]],
// CHECK-NOT: affine.load %arg1[%[[C]]
// CHECK: morph.role = "main"}

// The output keeps its 6 channels.
// CHECK: affine.for %[[C:.*]] = 0 to 4 {
// CHECK: affine.load %[[Y]][%{{.*}}, %[[C]],
// CHECK: affine.store %{{.*}}, %arg3[%{{.*}}, %[[C]],
// CHECK: affine.for %[[C:.*]] = 0 to 2 {
// CHECK: affine.load %[[Y]][%{{.*}}, %[[C]] + 4,
// CHECK: affine.store %{{.*}}, %arg3[%{{.*}}, %[[C]] + 4,
// CHECK-NOT: affine.for

// WHOLE-NOT: memref<9x
// WHOLE-NOT: morph.role = "pack"
// WHOLE-NOT: morph.padded

// ERROR: argument 'width': expected at least 2 lanes in a vector, got 1

func.func @main(%x: memref<1x3x7x7xf32> {morph.input = 0 : i64}, %w: memref<6x3x3x3xf32> {morph.param = "conv.weight"},
                %b: memref<6xf32> {morph.param = "conv.bias"}, %out: memref<1x6x5x5xf32> {morph.output = 0 : i64}) {
  %y = memref.alloc() : memref<1x6x5x5xf32>
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 6 {
      affine.for %h = 0 to 5 {
        affine.for %v = 0 to 5 {
          %a = affine.load %b[%c] : memref<6xf32>
          affine.store %a, %y[%n, %c, %h, %v] : memref<1x6x5x5xf32>
        } {morph.iter = "w"}
      } {morph.iter = "h"}
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "conv", morph.node = "convolution", morph.role = "init"}
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 6 {
      affine.for %oh = 0 to 5 {
        affine.for %ow = 0 to 5 {
          affine.for %ci = 0 to 3 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x3x7x7xf32>
                %k = affine.load %w[%co, %ci, %kh, %kw] : memref<6x3x3x3xf32>
                %c = affine.load %y[%n, %co, %oh, %ow] : memref<1x6x5x5xf32>
                %p = arith.mulf %a, %k : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%n, %co, %oh, %ow] : memref<1x6x5x5xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv", morph.node = "convolution", morph.role = "main"}
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 6 {
      affine.for %h = 0 to 5 {
        affine.for %v = 0 to 5 {
          %a = affine.load %y[%n, %c, %h, %v] : memref<1x6x5x5xf32>
          affine.store %a, %out[%n, %c, %h, %v] : memref<1x6x5x5xf32>
        } {morph.iter = "w"}
      } {morph.iter = "h"}
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.role = "copy"}
  return
}
