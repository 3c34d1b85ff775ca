// RUN: loopmorph-opt %s -p 'morph-blocked-layout{width=4}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-blocked-layout' | FileCheck %s --check-prefix=WIDE
// RUN: not loopmorph-opt %s -p 'morph-blocked-layout{width=1}' 2>&1 | FileCheck %s --check-prefix=ERROR

// CHECK: %[[Y:.*]] = memref.alloc() : memref<1x2x5x5x4xf32>
// CHECK: affine.store %{{.*}}, %[[Y]][%{{[a-z0-9]*}}, %{{[a-z0-9]*}}, %{{[a-z0-9]*}}, %{{[a-z0-9]*}}, %{{[a-z0-9]*}}]
// CHECK: %[[P:.*]] = memref.alloc() : memref<2x3x3x3x4xf32>
// CHECK: {morph.iter = "i0.0", morph.layer = "conv", morph.node = "convolution", morph.role = "pack"}
// CHECK: affine.for %[[N:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[O:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[I:.*]] = 0 to 4 {
// CHECK: affine.load %arg0[%[[N]], %[[CI:.*]], %{{.*}}, %{{.*}}] : memref<1x3x7x7xf32>
// CHECK-NEXT: affine.load %[[P]][%[[O]], %[[CI]], %{{.*}}, %{{.*}}, %[[I]]]
// CHECK-NEXT: affine.load %[[Y]][%[[N]], %[[O]], %{{.*}}, %{{.*}}, %[[I]]]
// CHECK: affine.load %[[Y]][%{{.*}}, %[[O:.*]], %{{.*}}, %{{.*}}, %[[I:.*]]] : memref<1x2x5x5x4xf32>
// CHECK: affine.store %{{.*}}, %arg2[%{{.*}}, %[[O]] * 4 + %[[I]], %{{.*}}, %{{.*}}] : memref<1x8x5x5xf32>

// WIDE: memref.alloc() : memref<1x8x5x5xf32>
// WIDE-NOT: memref.alloc
// WIDE-NOT: floordiv

// ERROR: argument 'width': expected at least 2 elements in a block, got 1

func.func @main(%x: memref<1x3x7x7xf32> {morph.input = 0 : i64}, %w: memref<8x3x3x3xf32> {morph.param = "conv.weight"},
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
          affine.for %ci = 0 to 3 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x3x7x7xf32>
                %b = affine.load %w[%co, %ci, %kh, %kw] : memref<8x3x3x3xf32>
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

// A result of three axes: the rows of the parameter are what the last one counts, not axis 1; of a parameter of which
// only the first rows are read, those are packed.
// CHECK-LABEL: func.func @logits
// CHECK:         %[[P:.*]] = memref.alloc() : memref<2x3x4xf32>
// CHECK:           affine.load %arg1[%{{.*}} * 4 + %{{.*}}, %{{.*}}] : memref<9x3xf32>
// CHECK:         affine.for %[[N:.*]] = 0 to 8 {
// CHECK-NEXT:      affine.for %[[O:.*]] = 0 to 2 {
// CHECK-NEXT:        affine.for %[[I:.*]] = 0 to 4 {
// CHECK-NEXT:          affine.for %[[K:.*]] = 0 to 3 {
// CHECK-NEXT:            affine.load %arg0[0, %[[N]], %[[K]]] : memref<1x8x3xf32>
// CHECK-NEXT:            affine.load %[[P]][%[[O]], %[[K]], %[[I]]] : memref<2x3x4xf32>
// CHECK-NEXT:            affine.load %arg2[0, %[[N]], %[[O]] * 4 + %[[I]]] : memref<1x8x9xf32>
func.func @logits(%x: memref<1x8x3xf32> {morph.input = 0 : i64}, %w: memref<9x3xf32> {morph.param = "head.weight"},
                  %y: memref<1x8x9xf32> {morph.output = 0 : i64}) {
  affine.for %n = 0 to 8 {
    affine.for %co = 0 to 8 {
      affine.for %ci = 0 to 3 {
        %a = affine.load %x[0, %n, %ci] : memref<1x8x3xf32>
        %b = affine.load %w[%co, %ci] : memref<9x3xf32>
        %c = affine.load %y[0, %n, %co] : memref<1x8x9xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %y[0, %n, %co] : memref<1x8x9xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "head", morph.node = "mm", morph.role = "main"}
  return
}
