// RUN: loopmorph-opt %s -p 'morph-narrow{layer=a iter=ci begin=8 extent=16}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-narrow{layer=a iter=kh begin=1},morph-bottleneck{layer=a iter=kh factor=2}' | FileCheck %s --check-prefix=TAPS
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=a iter=kh factor=3}' | FileCheck %s --check-prefix=CENTRE
// RUN: loopmorph-opt %s -p 'morph-narrow{layer=b iter=ci begin=4}' | FileCheck %s --check-prefix=OUTPUT
// RUN: not loopmorph-opt %s -p 'morph-narrow{layer=a iter=ci begin=32}' 2>&1 | FileCheck %s --check-prefix=BEGIN
// RUN: not loopmorph-opt %s -p 'morph-narrow{layer=a iter=ci begin=30 extent=3}' 2>&1 | FileCheck %s --check-prefix=EXTENT
// RUN: not loopmorph-opt %s -p 'morph-narrow{layer=a iter=oh begin=1}' 2>&1 | FileCheck %s --check-prefix=WINDOW

// A slice of the input is read, at an offset; the input stays.
// CHECK: module attributes {morph.schedule = ["morph-narrow{layer=a iter=ci begin=8 extent=16}"]}
// CHECK: %[[X:[a-z0-9]+]]: memref<32x6xf32> {morph.input = 0 : i64}
// CHECK-SAME: %[[W:[a-z0-9]+]]: memref<8x16x3xf32> {morph.inherit = affine_map<(d0, d1, d2) -> (d0, d1 + 8, d2)>, morph.param = "a.weight"}
// CHECK: affine.for %[[CO:.*]] = 0 to 8 {
// CHECK: affine.for %[[OH:.*]] = 0 to 4 {
// CHECK: affine.for %[[CI:.*]] = 0 to 16 {
// CHECK: affine.for %[[KH:.*]] = 0 to 3 {
// CHECK: affine.load %[[X]][%[[CI]] + 8, %[[OH]] + %[[KH]]] : memref<32x6xf32>
// CHECK: affine.load %[[W]][%[[CO]], %[[CI]], %[[KH]]] : memref<8x16x3xf32>

// Of the taps 1 and 2 the first is central.
// TAPS: memref<8x32x1xf32> {morph.inherit = affine_map<(d0, d1, d2) -> (d0, d1, d2 + 1)>, morph.param = "a.weight"}
// TAPS: affine.for %[[KH:.*]] = 0 to 1 {
// TAPS: affine.load %{{.*}}[%{{.*}}, %{{.*}} + %[[KH]] + 1] : memref<32x6xf32>

// CENTRE: memref<8x32x1xf32> {morph.inherit = affine_map<(d0, d1, d2) -> (d0, d1, d2 + 1)>, morph.param = "a.weight"}
// CENTRE: affine.load %{{.*}}[%{{.*}}, %{{.*}} + %{{.*}} + 1] : memref<32x6xf32>

// A reduction of the reader alone: its input stays as it is.
// OUTPUT: memref<5x4xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1 + 4)>, morph.param = "b.weight"}
// OUTPUT: memref.alloc() : memref<8x4xf32>
// OUTPUT: affine.load %{{.*}}[%{{.*}} + 4, 0] : memref<8x4xf32>

// BEGIN: error: argument 'begin': expected 0 to 31 for iterator 'ci', got 32
// EXTENT: error: argument 'extent': expected 1 to 2 from 30 on for iterator 'ci', got 3
// WINDOW: error: layer 'a', iterator 'oh': layer 'a' reads the tied dimension of extent 6 at 'oh + kh': a window or an offset, which it cannot follow

func.func @main(%x: memref<32x6xf32> {morph.input = 0 : i64}, %wa: memref<8x32x3xf32> {morph.param = "a.weight"},
                %wb: memref<5x8xf32> {morph.param = "b.weight"}, %y: memref<5xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8x4xf32>
  affine.for %co = 0 to 8 {
    affine.for %oh = 0 to 4 {
      affine.for %ci = 0 to 32 {
        affine.for %kh = 0 to 3 {
          %0 = affine.load %x[%ci, %oh + %kh] : memref<32x6xf32>
          %1 = affine.load %wa[%co, %ci, %kh] : memref<8x32x3xf32>
          %2 = affine.load %t[%co, %oh] : memref<8x4xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %t[%co, %oh] : memref<8x4xf32>
        } {morph.iter = "kh"}
      } {morph.iter = "ci"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 5 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %t[%ci, 0] : memref<8x4xf32>
      %1 = affine.load %wb[%co, %ci] : memref<5x8xf32>
      %2 = affine.load %y[%co] : memref<5xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<5xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  return
}
