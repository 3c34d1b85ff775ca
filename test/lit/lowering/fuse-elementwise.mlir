// RUN: loopmorph-opt %s -p 'morph-fuse-elementwise' | FileCheck %s --check-prefixes=CHECK,FUNCTION
// RUN: loopmorph-opt %s -p 'morph-fuse-elementwise{scope=layer}' | FileCheck %s --check-prefixes=CHECK,LAYER
// RUN: not loopmorph-opt %s -p 'morph-fuse-elementwise{scope=network}' 2>&1 | FileCheck %s --check-prefix=SCOPE

// SCOPE: expected one of layer, function, got 'network'

// Within a layer the two become one nest; across layers only with scope=function.
// CHECK-LABEL: func.func @main
// LAYER: memref.alloc
// FUNCTION-NOT: memref.alloc
// CHECK: math.rsqrt
// CHECK-NEXT: arith.mulf
// LAYER: affine.store
// LAYER: affine.for
// LAYER: affine.load
// FUNCTION-NOT: affine.for
// CHECK: arith.negf
// CHECK: affine.store
// CHECK-NOT: affine.for
// CHECK: return
func.func @main(%x: memref<8xf32>, %y: memref<8xf32>) {
  %t = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    %1 = math.rsqrt %0 : f32
    affine.store %1, %t[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "a"}
  %u = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %t[%i] : memref<8xf32>
    %1 = arith.mulf %0, %0 : f32
    affine.store %1, %u[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "a"}
  affine.for %i = 0 to 8 {
    %0 = affine.load %u[%i] : memref<8xf32>
    %1 = arith.negf %0 : f32
    affine.store %1, %y[%i] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "b"}
  return
}

// What the producer reads is overwritten before the consumer: they stay apart.
// CHECK-LABEL: func.func @overwritten
// CHECK-COUNT-3: affine.for
func.func @overwritten(%x: memref<8xf32>, %y: memref<8xf32>, %z: memref<8xf32>) {
  %t = memref.alloc() : memref<8xf32>
  affine.for %i = 0 to 8 {
    %0 = affine.load %x[%i] : memref<8xf32>
    affine.store %0, %t[%i] : memref<8xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %z[%i] : memref<8xf32>
    affine.store %0, %x[%i] : memref<8xf32>
  }
  affine.for %i = 0 to 8 {
    %0 = affine.load %t[%i] : memref<8xf32>
    affine.store %0, %y[%i] : memref<8xf32>
  }
  return
}
