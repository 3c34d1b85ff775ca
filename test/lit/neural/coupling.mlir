// RUN: loopmorph-opt %s -p 'morph-print-coupling' | FileCheck %s

// A network x -> a -> flatten -> b -> y with a window over the rows; the report comes before the program.

// CHECK: // class 0: extent 4
// CHECK-NEXT: //   iterators: a ci
// CHECK-NEXT: //   parameters: a.weight[1]
// CHECK-NEXT: //   pinned: its dimension is tied to the network's input through layer 'a'
// CHECK-NEXT: //
// CHECK-NEXT: // class 1: extent 8 and 16
// CHECK-NEXT: //   iterators: a co, b ci
// CHECK-NEXT: //   parameters: a.weight[0], b.weight[1]
// CHECK-NEXT: //
// CHECK-NEXT: // class 2: extent 2
// CHECK-NEXT: //   iterators: a oh
// CHECK-NEXT: //   pinned: windows or offsets of a 'oh + kh'
// CHECK: // class 3: extent 3
// CHECK-NEXT: //   iterators: a kh
// CHECK-NEXT: //   parameters: a.weight[2]
// CHECK-NEXT: //
// CHECK: // class 4: extent 5
// CHECK-NEXT: //   iterators: b co
// CHECK-NEXT: //   parameters: b.weight[0]
// CHECK-NEXT: //   pinned: its dimension is tied to the network's output through layer 'b'
// CHECK: module {

func.func @main(%x: memref<4x4xf32> {morph.input = 0 : i64}, %wa: memref<8x4x3xf32> {morph.param = "a.weight"},
                %wb: memref<5x16xf32> {morph.param = "b.weight"}, %y: memref<5xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8x2xf32>
  affine.for %ci = 0 to 4 {
    affine.for %co = 0 to 8 {
      affine.for %oh = 0 to 2 {
        affine.for %kh = 0 to 3 {
          %0 = affine.load %x[%ci, %oh + %kh] : memref<4x4xf32>
          %1 = affine.load %wa[%co, %ci, %kh] : memref<8x4x3xf32>
          %2 = affine.load %t[%co, %oh] : memref<8x2xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %t[%co, %oh] : memref<8x2xf32>
        } {morph.iter = "kh"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "ci", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 5 {
    affine.for %ci = 0 to 16 {
      %0 = affine.load %t[%ci floordiv 2, %ci mod 2] : memref<8x2xf32>
      %1 = affine.load %wb[%co, %ci] : memref<5x16xf32>
      %2 = affine.load %y[%co] : memref<5xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<5xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}
