// RUN: loopmorph-opt %s -p 'morph-split{layer=mm iter=co factor=8},morph-copy-operand{layer=mm operand=weight iters=co.0,ci,co.1}' \
// RUN:   | FileCheck %s
// RUN: not loopmorph-opt %s -p 'morph-copy-operand{layer=max operand=input iters=n}' 2>&1 | FileCheck %s --check-prefix=TWICE

// TWICE: layer 'max': it touches its input at 2 places, in vectors or to write; one scalar load is required

// Half of the rows of %v, in the order in which blocks of 8 columns are read; before the nest, whose start values stay.
// CHECK:      morph.schedule = ["morph-split{{.*}}", "morph-copy-operand{layer=mm operand=weight iters=co.0,ci,co.1}"]
// CHECK:      %[[COPY:.*]] = memref.alloc() : memref<2x5x8xf32>
// CHECK-NEXT: affine.for %[[B:.*]] = 0 to 2 {
// CHECK-NEXT:   affine.for %[[K:.*]] = 0 to 5 {
// CHECK-NEXT:     affine.for %[[L:.*]] = 0 to 8 {
// CHECK-NEXT:       %[[V:.*]] = affine.load %arg1[%[[K]], %[[B]] * 8 + %[[L]] + 16] : memref<5x32xf32>
// CHECK-NEXT:       affine.store %[[V]], %[[COPY]][%[[B]], %[[K]], %[[L]]] : memref<2x5x8xf32>
// CHECK-NEXT:     } {morph.iter = "co.1"}
// CHECK-NEXT:   } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co.0", morph.layer = "mm", morph.node = "mm", morph.role = "copy"}
// CHECK:      affine.for %[[N:.*]] = 0 to 7 {
// CHECK-NEXT:   affine.for %[[CB:.*]] = 0 to 2 {
// CHECK-NEXT:     affine.for %[[CL:.*]] = 0 to 8 {
// CHECK-NEXT:       affine.for %[[CI:.*]] = 0 to 5 {
// CHECK:              affine.load %[[COPY]][%[[CB]], %[[CI]], %[[CL]]] : memref<2x5x8xf32>
// CHECK-NOT:          affine.load %arg1
// CHECK:      } {morph.iter = "n", morph.layer = "mm", morph.node = "mm", morph.role = "main"}
func.func @f(%x: memref<7x5xf32>, %v: memref<5x32xf32>, %y: memref<7x16xf32>,
             %z: memref<6xf32>) {
  affine.for %n = 0 to 7 {
    affine.for %co = 0 to 16 {
      affine.for %ci = 0 to 5 {
        %a = affine.load %x[%n, %ci] : memref<7x5xf32>
        %b = affine.load %v[%ci, %co + 16] : memref<5x32xf32>
        %s = affine.load %y[%n, %co] : memref<7x16xf32>
        %m = arith.mulf %a, %b : f32
        %r = arith.addf %s, %m : f32
        affine.store %r, %y[%n, %co] : memref<7x16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "mm", morph.node = "mm", morph.role = "main"}
  affine.for %n = 0 to 6 {
    %a = affine.load %x[%n, 0] : memref<7x5xf32>
    %b = affine.load %x[%n + 1, 0] : memref<7x5xf32>
    %m = arith.maximumf %a, %b : f32
    affine.store %m, %z[%n] : memref<6xf32>
  } {morph.iter = "n", morph.layer = "max", morph.role = "main"}
  return
}
