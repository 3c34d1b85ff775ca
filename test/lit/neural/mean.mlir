// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=co factor=2}' | FileCheck %s
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=mean iter=c factor=2}' 2>&1 | FileCheck %s --check-prefix=START
// RUN: sed 's/8.000000e+00/7.000000e+00/' %s | not loopmorph-opt - -p 'morph-bottleneck{layer=a iter=co factor=2}' 2>&1 | FileCheck %s --check-prefix=OTHER

// A network x -> a -> minus its mean -> b -> y: the mean divides by the number of what is left.

// CHECK: memref<4x3xf32> {{{.*}}morph.param = "a.weight"}
// CHECK-SAME: memref<2x4xf32> {{{.*}}morph.param = "b.weight"}
// CHECK: %[[COUNT:.*]] = arith.constant 4.000000e+00 : f32
// CHECK-NEXT: arith.divf %{{.*}}, %[[COUNT]] : f32
// CHECK-NOT: 8xf32

// START: error: layer 'mean', iterator 'c': layer 'mean' reduces over it without a parameter; its constants would be wrong
// OTHER: error: layer 'a', iterator 'co': layer 'mean' reduces over it without a parameter; its constants would be wrong
func.func @main(%x: memref<3xf32> {morph.input = 0 : i64}, %wa: memref<8x3xf32> {morph.param = "a.weight"},
                %wb: memref<2x8xf32> {morph.param = "b.weight"}, %y: memref<2xf32> {morph.output = 0 : i64}) {
  %count = arith.constant 8.000000e+00 : f32
  %t = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 3 {
      %0 = affine.load %x[%ci] : memref<3xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x3xf32>
      %2 = affine.load %t[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
  %s = memref.alloc() : memref<1xf32>
  affine.for %n = 0 to 1 {
    affine.for %c = 0 to 8 {
      %0 = affine.load %t[%c] : memref<8xf32>
      %1 = affine.load %s[%n] : memref<1xf32>
      %2 = arith.addf %0, %1 : f32
      affine.store %2, %s[%n] : memref<1xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "mean", morph.node = "mean", morph.role = "main"}
  %m = memref.alloc() : memref<8xf32>
  affine.for %c = 0 to 8 {
    %0 = affine.load %t[%c] : memref<8xf32>
    %1 = affine.load %s[0] : memref<1xf32>
    %2 = arith.divf %1, %count : f32
    %3 = arith.subf %0, %2 : f32
    affine.store %3, %m[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sub", morph.node = "sub", morph.role = "main"}
  affine.for %co = 0 to 2 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %m[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<2x8xf32>
      %2 = affine.load %y[%co] : memref<2xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<2xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.node = "mm", morph.role = "main"}
  return
}
