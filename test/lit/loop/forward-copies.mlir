// RUN: loopmorph-opt %s --split-input-file -p 'morph-forward-copies' | FileCheck %s

// A padded result is computed in place; of the fill only the border is left.

// CHECK-LABEL: func.func @pad
// CHECK: %[[Y:.*]] = memref.alloc() : memref<6x10xf32>
// CHECK-NOT: memref.alloc
// CHECK: affine.for %[[I:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[J:.*]] = 0 to 10 {
// CHECK-NEXT: affine.store %{{.*}}, %[[Y]][%[[I]], %[[J]]]
// CHECK-NEXT: } {morph.iter = "w"}
// CHECK-NEXT: } {morph.iter = "h", morph.layer = "conv2", morph.role = "init"}
// CHECK-NEXT: affine.for %[[I:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[J:.*]] = 0 to 10 {
// CHECK-NEXT: affine.store %{{.*}}, %[[Y]][%[[I]] + 5, %[[J]]]
// CHECK: affine.for %[[I:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[J:.*]] = 0 to 1 {
// CHECK-NEXT: affine.store %{{.*}}, %[[Y]][%[[I]] + 1, %[[J]]]
// CHECK: affine.for %[[I:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[J:.*]] = 0 to 1 {
// CHECK-NEXT: affine.store %{{.*}}, %[[Y]][%[[I]] + 1, %[[J]] + 9]
// CHECK: affine.load %arg0
// CHECK: affine.store %{{.*}}, %[[Y]][%{{.*}} + 1, %{{.*}} + 1]
// CHECK: } {morph.iter = "h", morph.layer = "relu", morph.role = "main"}
// CHECK: affine.load %[[Y]][%{{.*}}, %{{.*}} + 2]
// CHECK: affine.load %[[Y]][%{{.*}} + 1, %{{.*}} + 1]
func.func @pad(%x: memref<4x8xf32> {morph.input = 0 : i64}, %out: memref<4x8xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j] : memref<4x8xf32>
      %b = arith.maximumf %a, %zero : f32
      affine.store %b, %t[%i, %j] : memref<4x8xf32>
    } {morph.iter = "w"}
  } {morph.iter = "h", morph.layer = "relu", morph.role = "main"}
  %y = memref.alloc() : memref<6x10xf32>
  affine.for %i = 0 to 6 {
    affine.for %j = 0 to 10 {
      affine.store %zero, %y[%i, %j] : memref<6x10xf32>
    } {morph.iter = "w"}
  } {morph.iter = "h", morph.layer = "conv2", morph.role = "init"}
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %t[%i, %j] : memref<4x8xf32>
      affine.store %a, %y[%i + 1, %j + 1] : memref<6x10xf32>
    } {morph.iter = "w"}
  } {morph.iter = "h", morph.layer = "conv2", morph.role = "pad"}
  affine.for %i = 0 to 4 {
    affine.for %j = 0 to 8 {
      %a = affine.load %y[%i, %j + 2] : memref<6x10xf32>
      %b = affine.load %t[%i, %j] : memref<4x8xf32>
      %c = arith.addf %a, %b : f32
      affine.store %c, %out[%i, %j] : memref<4x8xf32>
    } {morph.iter = "w"}
  } {morph.iter = "h", morph.layer = "conv2", morph.role = "main"}
  return
}

// -----

// A concatenation of concatenations is one memref.

// CHECK-LABEL: func.func @concatenate
// CHECK-NOT: memref.alloc
// CHECK: affine.load %arg0
// CHECK: affine.store %{{.*}}, %arg1[%{{.*}} + 4]
// CHECK: affine.load %arg1[%{{.*}} + 4]
// CHECK: affine.store %{{.*}}, %arg1[%{{.*}} + 2]
// CHECK: affine.load %arg1[%{{.*}} + 2]
// CHECK: affine.store %{{.*}}, %arg1[%{{.*}}] :
// CHECK-NOT: affine.for
func.func @concatenate(%x: memref<3xf32> {morph.input = 0 : i64}, %out: memref<7xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<3xf32>
  affine.for %i = 0 to 3 {
    %a = affine.load %x[%i] : memref<3xf32>
    %b = arith.negf %a : f32
    affine.store %b, %t[%i] : memref<3xf32>
  }
  %u = memref.alloc() : memref<2xf32>
  affine.for %i = 0 to 2 {
    %a = affine.load %t[%i] : memref<3xf32>
    %b = math.absf %a : f32
    affine.store %b, %u[%i] : memref<2xf32>
  }
  %y = memref.alloc() : memref<5xf32>
  affine.for %i = 0 to 2 {
    %a = affine.load %u[%i] : memref<2xf32>
    affine.store %a, %y[%i] : memref<5xf32>
  }
  affine.for %i = 0 to 3 {
    %a = affine.load %t[%i] : memref<3xf32>
    affine.store %a, %y[%i + 2] : memref<5xf32>
  }
  %v = memref.alloc() : memref<2xf32>
  affine.for %i = 0 to 2 {
    %a = affine.load %y[%i] : memref<5xf32>
    %b = math.exp %a : f32
    affine.store %b, %v[%i] : memref<2xf32>
  }
  affine.for %i = 0 to 2 {
    %a = affine.load %v[%i] : memref<2xf32>
    affine.store %a, %out[%i] : memref<7xf32>
  }
  affine.for %i = 0 to 5 {
    %a = affine.load %y[%i] : memref<5xf32>
    affine.store %a, %out[%i + 2] : memref<7xf32>
  }
  return
}

// -----

// The copy of an argument stays; the fill before it shrinks all the same.

// CHECK-LABEL: func.func @argument
// CHECK: affine.for %{{.*}} = 0 to 1 {
// CHECK-NEXT: affine.store %{{.*}}, %arg1[%{{.*}}] :
// CHECK: affine.for %{{.*}} = 0 to 2 {
// CHECK-NEXT: affine.store %{{.*}}, %arg1[%{{.*}} + 5] :
// CHECK: affine.for %{{.*}} = 0 to 4 {
// CHECK-NEXT: affine.load %arg0
// CHECK-NEXT: affine.store %{{.*}}, %arg1[%{{.*}} + 1] :
func.func @argument(%x: memref<4xf32> {morph.input = 0 : i64}, %out: memref<7xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  affine.for %i = 0 to 7 {
    affine.store %zero, %out[%i] : memref<7xf32>
  }
  affine.for %i = 0 to 4 {
    %a = affine.load %x[%i] : memref<4xf32>
    affine.store %a, %out[%i + 1] : memref<7xf32>
  }
  return
}

// -----

// What is written again after the copy, or whose place is overwritten while it is in use, stays apart.

// CHECK-LABEL: func.func @stays
// CHECK-COUNT-2: memref.alloc() : memref<4xf32>
// CHECK: affine.load %alloc[%{{.*}}]
// CHECK-NEXT: affine.store %{{.*}}, %alloc_0[%{{.*}}]
func.func @stays(%x: memref<4xf32> {morph.input = 0 : i64}, %out: memref<4xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<4xf32>
  %y = memref.alloc() : memref<4xf32>
  affine.for %i = 0 to 4 {
    %a = affine.load %x[%i] : memref<4xf32>
    affine.store %a, %t[%i] : memref<4xf32>
  }
  affine.for %i = 0 to 4 {
    %a = affine.load %t[%i] : memref<4xf32>
    affine.store %a, %y[%i] : memref<4xf32>
  }
  affine.for %i = 0 to 4 {
    %a = affine.load %y[%i] : memref<4xf32>
    %b = arith.addf %a, %a : f32
    affine.store %b, %y[%i] : memref<4xf32>
  }
  affine.for %i = 0 to 4 {
    %a = affine.load %t[%i] : memref<4xf32>
    %b = affine.load %y[%i] : memref<4xf32>
    %c = arith.addf %a, %b : f32
    affine.store %c, %out[%i] : memref<4xf32>
  }
  return
}
