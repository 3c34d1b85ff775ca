// RUN: loopmorph-opt %s --split-input-file -p 'morph-drop-block{layer=b}' | FileCheck %s
// RUN: loopmorph-opt %s --split-input-file --transform drop-block --set layer=b | FileCheck %s

// The branch a, b, scale of x + f(x) goes with its weights, and what read the sum reads x.

// CHECK: module attributes {morph.schedule = ["morph-drop-block{layer=b}"]}
// CHECK-LABEL: func.func @identity
// CHECK-SAME: %[[X:.*]]: memref<8xf32> {morph.input = 0 : i64}, %[[WC:.*]]: memref<8x8xf32> {morph.param = "c.weight"}, %[[Y:.*]]: memref<8xf32> {morph.output = 0 : i64})
// CHECK-NEXT: affine.for %[[CO:.*]] = 0 to 8 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 8 {
// CHECK-NEXT: affine.load %[[X]][%[[CI]]]
// CHECK-NEXT: affine.load %[[WC]][%[[CO]], %[[CI]]]
// CHECK-NEXT: affine.load %[[Y]][%[[CO]]]
// CHECK: morph.layer = "c"
// CHECK-NEXT: return

func.func @identity(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %g: memref<8xf32> {morph.param = "b.scale"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  %u = memref.alloc() : memref<8xf32>
  %v = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %t[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %t[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %g[%c] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %v[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "scale", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %v[%c] : memref<8xf32>
    %1 = affine.load %x[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %s[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %s[%ci] : memref<8xf32>
      %1 = affine.load %wc[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "c", morph.role = "main"}
  return
}

// -----

// Of p(x) + f(x) the projection p stays.

// CHECK-LABEL: func.func @projection
// CHECK-SAME: %[[X:.*]]: memref<8xf32> {morph.input = 0 : i64}, %{{.*}}: memref<8x8xf32> {morph.param = "p.weight"}, %{{.*}}: memref<8x8xf32> {morph.param = "c.weight"}, %{{.*}}: memref<8xf32> {morph.output = 0 : i64})
// CHECK-NEXT: %[[V:.*]] = memref.alloc() : memref<8xf32>
// CHECK: affine.load %[[X]]
// CHECK: affine.store %{{.*}}, %[[V]]
// CHECK: morph.layer = "p"
// CHECK: affine.load %[[V]]
// CHECK: morph.layer = "c"
// CHECK-NEXT: return

func.func @projection(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %wp: memref<8x8xf32> {morph.param = "p.weight"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  %u = memref.alloc() : memref<8xf32>
  %v = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %t[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %t[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wp[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %v[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %v[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "p", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %v[%c] : memref<8xf32>
    %1 = affine.load %u[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %s[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %s[%ci] : memref<8xf32>
      %1 = affine.load %wc[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "c", morph.role = "main"}
  return
}

// -----

// A sum that is the network's output is the copy of its skip; what the skip is made of stays.

// CHECK-LABEL: func.func @output
// CHECK-SAME: morph.param = "a.weight"}, %[[Y:.*]]: memref<8xf32> {morph.output = 0 : i64})
// CHECK: %[[T:.*]] = memref.alloc() : memref<8xf32>
// CHECK: morph.layer = "a"
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 8 {
// CHECK-NEXT: %[[E:.*]] = affine.load %[[T]][%[[C]]]
// CHECK-NEXT: affine.store %[[E]], %[[Y]][%[[C]]]
// CHECK-NEXT: } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
// CHECK-NEXT: return

func.func @output(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  %u = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %t[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %t[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %t[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %t[%c] : memref<8xf32>
    %1 = affine.load %u[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %y[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  return
}

// -----

// A parameter that the branch is multiplied with twice goes with it.

// CHECK-LABEL: func.func @twice
// CHECK-SAME: %[[X:.*]]: memref<8xf32> {morph.input = 0 : i64}, %{{.*}}: memref<8x8xf32> {morph.param = "c.weight"}, %{{.*}}: memref<8xf32> {morph.output = 0 : i64})
// CHECK-NEXT: affine.for %{{.*}} = 0 to 8 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 8 {
// CHECK-NEXT: affine.load %[[X]][%[[CI]]]
// CHECK: morph.layer = "c"
// CHECK-NEXT: return

func.func @twice(%x: memref<8xf32> {morph.input = 0 : i64},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %g: memref<8xf32> {morph.param = "b.scale"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %u = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wb[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "b", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %g[%c] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    %3 = arith.mulf %2, %1 : f32
    %4 = affine.load %x[%c] : memref<8xf32>
    %5 = arith.addf %3, %4 : f32
    affine.store %5, %s[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %s[%ci] : memref<8xf32>
      %1 = affine.load %wc[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "c", morph.role = "main"}
  return
}
