// RUN: loopmorph-opt %s -p 'morph-prefetch{layer=conv1 iter=ci distance=8}' | FileCheck %s

// Two vectors of half a cache line, side by side in memory, are asked for once; one in the next line by itself.
// CHECK-LABEL: func.func @main
// CHECK: affine.for %[[CI:.*]] = 0 to 64
// CHECK-NEXT: affine.prefetch %[[W:.*]][%[[CI]] + 8, 0, 0], read, locality<3>, data : memref<64x3x8xf32>
// CHECK-NEXT: affine.vector_load %[[W]][%[[CI]], 0, 0]
// CHECK-NEXT: affine.vector_load %[[W]][%[[CI]], 1, 0]
// CHECK-NEXT: affine.prefetch %[[W]][%[[CI]] + 8, 2, 0], read, locality<3>, data : memref<64x3x8xf32>
// CHECK-NEXT: affine.vector_load %[[W]][%[[CI]], 2, 0]
// CHECK-NOT: affine.prefetch
func.func @main(%w: memref<64x3x8xf32> {morph.param = "w"}, %y: memref<3x8xf32> {morph.output = 0 : i64}) {
  affine.for %ci = 0 to 64 {
    %a = affine.vector_load %w[%ci, 0, 0] : memref<64x3x8xf32>, vector<8xf32>
    %b = affine.vector_load %w[%ci, 1, 0] : memref<64x3x8xf32>, vector<8xf32>
    %c = affine.vector_load %w[%ci, 2, 0] : memref<64x3x8xf32>, vector<8xf32>
    affine.vector_store %a, %y[0, 0] : memref<3x8xf32>, vector<8xf32>
    affine.vector_store %b, %y[1, 0] : memref<3x8xf32>, vector<8xf32>
    affine.vector_store %c, %y[2, 0] : memref<3x8xf32>, vector<8xf32>
  } {morph.iter = "ci", morph.layer = "conv1"}
  return
}
