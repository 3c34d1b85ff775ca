// RUN: loopmorph-opt %s -p 'morph-pack{layer=conv operand=output axes=1 factors=4}' | FileCheck %s --check-prefix=OUT
// RUN: loopmorph-opt %s -p 'morph-pack{layer=conv operand=output axes=1 factors=4},morph-split{layer=conv iter=co factor=4}' \
// RUN:   | FileCheck %s --check-prefix=SPLIT
// RUN: loopmorph-opt %s -p 'morph-pack{layer=conv operand=weight axes=1,0 factors=2,4}' | FileCheck %s --check-prefix=WEIGHT

// OUT: morph.schedule = ["morph-pack{layer=conv operand=output axes=1 factors=4}"]
// OUT: memref.alloc() : memref<1x2x5x5x4xf32>
// OUT: affine.for %[[C:.*]] = 0 to 8 {
// OUT: affine.store %{{.*}}, %[[Y:.*]][%{{.*}}, %[[C]] floordiv 4, %{{.*}}, %{{.*}}, %[[C]] mod 4] : memref<1x2x5x5x4xf32>
// OUT: affine.load %[[Y]][%{{.*}}, %[[C:.*]] floordiv 4, %{{.*}}, %{{.*}}, %[[C]] mod 4] : memref<1x2x5x5x4xf32>
// OUT: affine.load %[[Y]][%{{.*}}, %[[C:.*]] floordiv 4, %{{.*}}, %{{.*}}, %[[C]] mod 4] : memref<1x2x5x5x4xf32>

// SPLIT: affine.load %{{.*}}[%[[N:.*]], %[[O:.*]], %[[H:.*]], %[[W:.*]], %[[I:.*]]] : memref<1x2x5x5x4xf32>
// SPLIT: affine.store %{{.*}}, %{{.*}}[%[[N]], %[[O]], %[[H]], %[[W]], %[[I]]] : memref<1x2x5x5x4xf32>
// SPLIT: {morph.iter = "co.1"}
// SPLIT-NEXT: {morph.iter = "co.0"}

// WEIGHT: %[[P:.*]] = memref.alloc() : memref<2x3x3x3x2x4xf32>
// WEIGHT-NEXT: affine.for %[[A:.*]] = 0 to 2 {
// WEIGHT-NEXT: affine.for %[[B:.*]] = 0 to 3 {
// WEIGHT-NEXT: affine.for %[[KH:.*]] = 0 to 3 {
// WEIGHT-NEXT: affine.for %[[KW:.*]] = 0 to 3 {
// WEIGHT-NEXT: affine.for %[[I:.*]] = 0 to 2 {
// WEIGHT-NEXT: affine.for %[[O:.*]] = 0 to 4 {
// WEIGHT-NEXT: affine.load %arg1[%[[A]] * 4 + %[[O]], %[[B]] * 2 + %[[I]], %[[KH]], %[[KW]]]
// WEIGHT-NEXT: affine.store %{{.*}}, %[[P]][%[[A]], %[[B]], %[[KH]], %[[KW]], %[[I]], %[[O]]]
// WEIGHT-NEXT: } {morph.iter = "i0.1"}
// WEIGHT: } {morph.iter = "i0.0", morph.layer = "conv", morph.node = "convolution", morph.role = "pack"}
// WEIGHT: affine.load %[[P]][%[[C:.*]] floordiv 4, %[[D:.*]] floordiv 2, %{{.*}}, %{{.*}}, %[[D]] mod 2, %[[C]] mod 4]

func.func @main(%x: memref<1x6x7x7xf32> {morph.input = 0 : i64}, %w: memref<8x6x3x3xf32> {morph.param = "conv.weight"},
                %out: memref<1x8x5x5xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  %y = memref.alloc() : memref<1x8x5x5xf32>
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 8 {
      affine.for %h = 0 to 5 {
        affine.for %v = 0 to 5 {
          affine.store %zero, %y[%n, %c, %h, %v] : memref<1x8x5x5xf32>
        } {morph.iter = "w"}
      } {morph.iter = "h"}
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "conv", morph.node = "convolution", morph.role = "init"}
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 8 {
      affine.for %oh = 0 to 5 {
        affine.for %ow = 0 to 5 {
          affine.for %ci = 0 to 6 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x6x7x7xf32>
                %b = affine.load %w[%co, %ci, %kh, %kw] : memref<8x6x3x3xf32>
                %c = affine.load %y[%n, %co, %oh, %ow] : memref<1x8x5x5xf32>
                %p = arith.mulf %a, %b : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%n, %co, %oh, %ow] : memref<1x8x5x5xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv", morph.node = "convolution", morph.role = "main"}
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 8 {
      affine.for %h = 0 to 5 {
        affine.for %v = 0 to 5 {
          %a = affine.load %y[%n, %c, %h, %v] : memref<1x8x5x5xf32>
          %b = arith.maximumf %a, %zero : f32
          affine.store %b, %out[%n, %c, %h, %v] : memref<1x8x5x5xf32>
        } {morph.iter = "w"}
      } {morph.iter = "h"}
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "relu", morph.node = "relu", morph.role = "main"}
  return
}
