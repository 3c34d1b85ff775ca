// RUN: loopmorph-opt %s -p 'morph-skip-zeros{layer=a}' | FileCheck %s

// All lanes of a vector are written, not its first alone: channel 3 of row 1 is no zero.
// CHECK-LABEL: func.func @vectors
// CHECK: %[[X:.*]] = memref.alloc() : memref<4x8xf32>
// CHECK: affine.for %[[CI:.*]] = 0 to 5 {
// CHECK-NOT: affine.load %[[X]][0,
// CHECK: affine.load %[[X]][1, %[[CI]] + 3] : memref<4x8xf32>
func.func @vectors(%in: memref<3x8xf32>, %w: memref<5x2xf32>, %y: memref<1xf32>) {
  %z = arith.constant 0.0 : f32
  %x = memref.alloc() : memref<4x8xf32>
  affine.for %c = 0 to 8 {
    affine.store %z, %x[0, %c] : memref<4x8xf32>
  } {morph.iter = "c", morph.layer = "a", morph.role = "init"}
  affine.for %h = 0 to 3 {
    %v = affine.vector_load %in[%h, 0] : memref<3x8xf32>, vector<8xf32>
    affine.vector_store %v, %x[%h + 1, 0] : memref<4x8xf32>, vector<8xf32>
  } {morph.iter = "h", morph.layer = "a", morph.role = "pad"}
  affine.for %ci = 0 to 5 {
    %x0 = affine.load %x[0, %ci + 3] : memref<4x8xf32>
    %w0 = affine.load %w[%ci, 0] : memref<5x2xf32>
    %p0 = arith.mulf %x0, %w0 : f32
    %a0 = affine.load %y[0] : memref<1xf32>
    %s0 = arith.addf %a0, %p0 : f32
    affine.store %s0, %y[0] : memref<1xf32>
    %x1 = affine.load %x[1, %ci + 3] : memref<4x8xf32>
    %w1 = affine.load %w[%ci, 1] : memref<5x2xf32>
    %p1 = arith.mulf %x1, %w1 : f32
    %a1 = affine.load %y[0] : memref<1xf32>
    %s1 = arith.addf %a1, %p1 : f32
    affine.store %s1, %y[0] : memref<1xf32>
  } {morph.iter = "ci", morph.layer = "a", morph.role = "main"}
  return
}
