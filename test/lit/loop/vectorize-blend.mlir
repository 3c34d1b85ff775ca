// RUN: loopmorph-opt %s -p 'morph-vectorize{layer=a iter=c width=8}' | FileCheck %s

// Four lanes share each of two elements: broadcast twice and blended, not loaded lane by lane.
// CHECK: affine.for %[[N:.*]] = 0 to 2 {
// CHECK-DAG: %[[A:.*]] = affine.load %[[X:.*]][%[[N]], 0] : memref<2x2xf32>
// CHECK-DAG: %[[B:.*]] = affine.load %[[X]][%[[N]], 1] : memref<2x2xf32>
// CHECK-DAG: %[[VA:.*]] = vector.broadcast %[[A]] : f32 to vector<8xf32>
// CHECK-DAG: %[[VB:.*]] = vector.broadcast %[[B]] : f32 to vector<8xf32>
// CHECK: %[[V:.*]] = arith.select %{{.*}}, %[[VB]], %[[VA]] : vector<8xi1>, vector<8xf32>
// CHECK: affine.vector_store %[[V]], %{{.*}}[%[[N]], 0]
// CHECK-NOT: vector.from_elements
func.func @f(%x: memref<2x2xf32>, %y: memref<2x8xf32>) {
  affine.for %n = 0 to 2 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c floordiv 4] : memref<2x2xf32>
      affine.store %v, %y[%n, %c] : memref<2x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
