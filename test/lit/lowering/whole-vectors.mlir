// RUN: loopmorph-opt %s -p 'morph-whole-vectors{width=4}' | FileCheck %s

// The keys are copied so that the lane runs along their rows; what a row is longer is filled with zeros.
// CHECK-LABEL: func.func @scores
// CHECK:         %[[S:.*]] = memref.alloc() : memref<6x8xf32>
// CHECK:         %[[P:.*]] = memref.alloc() : memref<3x8xf32>
// CHECK:         affine.for %[[CI:.*]] = 0 to 3 {
// CHECK-NEXT:      affine.for %[[CO:.*]] = 0 to 6 {
// CHECK-NEXT:        %[[V:.*]] = affine.load %{{.*}}[%[[CO]], %[[CI]]] : memref<6x3xf32>
// CHECK-NEXT:        affine.store %[[V]], %[[P]][%[[CI]], %[[CO]]] : memref<3x8xf32>
// CHECK:         } {morph.iter = "ci", morph.layer = "bmm", morph.node = "bmm", morph.role = "pack"}
// CHECK:         affine.for %[[I:.*]] = 0 to 3 {
// CHECK-NEXT:      affine.for %[[J:.*]] = 0 to 2 {
// CHECK-NEXT:        affine.store %{{.*}}, %[[P]][%[[I]], %[[J]] + 6] : memref<3x8xf32>
// CHECK:         } {morph.iter = "i0", morph.layer = "bmm", morph.node = "bmm", morph.role = "pad"}
// CHECK:         affine.for %{{.*}} = 0 to 6 {
// CHECK-NEXT:      affine.for %{{.*}} = 0 to 8 {
// CHECK-NEXT:        affine.store %{{.*}}, %[[S]]
// CHECK:         } {morph.iter = "n", morph.layer = "bmm", morph.node = "bmm", morph.role = "init"}
// CHECK:         affine.for %[[N:.*]] = 0 to 6 {
// CHECK-NEXT:      affine.for %[[C:.*]] = 0 to 8 {
// CHECK-NEXT:        affine.for %[[D:.*]] = 0 to 3 {
// CHECK-NEXT:          affine.load %{{.*}}[%[[N]], %[[D]]] : memref<6x3xf32>
// CHECK-NEXT:          affine.load %[[P]][%[[D]], %[[C]]] : memref<3x8xf32>
// CHECK-NEXT:          affine.load %[[S]][%[[N]], %[[C]]] : memref<6x8xf32>
// CHECK:         affine.for %{{.*}} = 0 to 6 {
// CHECK-NEXT:      affine.for %{{.*}} = 0 to 6 {
// CHECK-NEXT:        affine.load %[[S]][%{{.*}}, %{{.*}}] : memref<6x8xf32>
func.func @scores(%q: memref<6x3xf32>, %k: memref<6x3xf32>, %y: memref<6x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %s = memref.alloc() : memref<6x6xf32>
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      affine.store %zero, %s[%n, %c] : memref<6x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "bmm", morph.node = "bmm", morph.role = "init"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %q[%n, %d] : memref<6x3xf32>
        %b = affine.load %k[%c, %d] : memref<6x3xf32>
        %t = affine.load %s[%n, %c] : memref<6x6xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %t, %p : f32
        affine.store %r, %s[%n, %c] : memref<6x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "bmm", morph.node = "bmm", morph.role = "main"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      %v = affine.load %s[%n, %c] : memref<6x6xf32>
      %e = math.exp %v : f32
      affine.store %e, %y[%n, %c] : memref<6x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "exp", morph.role = "main"}
  return
}

// Too few rows share the operand: it stays as it is. The rows of a result of the caller's cannot get longer: what
// fills no whole vectors is cut off.
// CHECK-LABEL: func.func @left
// CHECK:         memref.alloc() : memref<3x6xf32>
// CHECK-NOT:     memref.alloc() : memref<3x8xf32>
// CHECK:         layer = "few", morph.role = "main"
// CHECK:           affine.for %[[C:.*]] = 0 to 4 {
// CHECK-NEXT:        affine.store %{{.*}}, %[[Y:.*]][%{{.*}}, %[[C]]] : memref<6x6xf32>
// CHECK:         layer = "out", morph.role = "init"
// CHECK:           affine.for %[[C:.*]] = 0 to 2 {
// CHECK-NEXT:        affine.store %{{.*}}, %[[Y]][%{{.*}}, %[[C]] + 4] : memref<6x6xf32>
// CHECK:         layer = "out", morph.role = "init"
// CHECK:         %[[P:.*]] = memref.alloc() : memref<3x4xf32>
// CHECK:         layer = "out", {{.*}}morph.role = "pack"
// CHECK:           affine.for %[[C:.*]] = 0 to 4 {
// CHECK:             affine.load %[[P]][%{{.*}}, %[[C]]] : memref<3x4xf32>
// CHECK:             affine.store %{{.*}}, %[[Y]][%{{.*}}, %[[C]]] : memref<6x6xf32>
// CHECK:         layer = "out", morph.role = "main"
// CHECK:           affine.for %[[C:.*]] = 0 to 2 {
// CHECK:             affine.load %{{.*}}[%[[C]] + 4, %{{.*}}] : memref<6x3xf32>
// CHECK:             affine.store %{{.*}}, %[[Y]][%{{.*}}, %[[C]] + 4] : memref<6x6xf32>
// CHECK:         layer = "out", morph.role = "main"
func.func @left(%q: memref<6x3xf32>, %k: memref<6x3xf32>, %y: memref<6x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %s = memref.alloc() : memref<3x6xf32>
  affine.for %n = 0 to 3 {
    affine.for %c = 0 to 6 {
      affine.store %zero, %s[%n, %c] : memref<3x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "few", morph.role = "init"}
  affine.for %n = 0 to 3 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %q[%n, %d] : memref<6x3xf32>
        %b = affine.load %k[%c, %d] : memref<6x3xf32>
        %t = affine.load %s[%n, %c] : memref<3x6xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %t, %p : f32
        affine.store %r, %s[%n, %c] : memref<3x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "few", morph.role = "main"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      affine.store %zero, %y[%n, %c] : memref<6x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "out", morph.role = "init"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %q[%n, %d] : memref<6x3xf32>
        %b = affine.load %k[%c, %d] : memref<6x3xf32>
        %t = affine.load %y[%n, %c] : memref<6x6xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %t, %p : f32
        affine.store %r, %y[%n, %c] : memref<6x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "out", morph.role = "main"}
  return
}

// Where another iterator is added to the lane in an index, all stays as it is; where another nest writes results
// too, their rows do.
// CHECK-LABEL: func.func @window
// CHECK:         memref.alloc() : memref<8x6xf32>
// CHECK-NOT:     memref.alloc
// CHECK-NOT:     "pack"
func.func @window(%x: memref<2x8xf32>, %w: memref<8x2x3xf32>, %y: memref<8x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %s = memref.alloc() : memref<8x6xf32>
  affine.for %c = 0 to 8 {
    affine.for %o = 0 to 6 {
      affine.store %zero, %s[%c, %o] : memref<8x6xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "conv", morph.role = "init"}
  affine.for %c = 0 to 8 {
    affine.for %o = 0 to 6 {
      affine.for %d = 0 to 2 {
        affine.for %k = 0 to 3 {
          %a = affine.load %x[%d, %o + %k] : memref<2x8xf32>
          %b = affine.load %w[%c, %d, %k] : memref<8x2x3xf32>
          %t = affine.load %s[%c, %o] : memref<8x6xf32>
          %p = arith.mulf %a, %b : f32
          %r = arith.addf %t, %p : f32
          affine.store %r, %s[%c, %o] : memref<8x6xf32>
        } {morph.iter = "kw"}
      } {morph.iter = "ci"}
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "conv", morph.role = "main"}
  affine.for %c = 0 to 8 {
    affine.for %o = 0 to 6 {
      %v = affine.load %s[%c, %o] : memref<8x6xf32>
      affine.store %v, %y[%c, %o] : memref<8x6xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "co", morph.layer = "out", morph.role = "main"}
  return
}

// CHECK-LABEL: func.func @parts
// CHECK:         memref.alloc() : memref<8x6xf32>
// CHECK-NOT:     memref<8x8xf32>
func.func @parts(%q: memref<8x3xf32>, %k: memref<6x3xf32>, %y: memref<8x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %s = memref.alloc() : memref<8x6xf32>
  affine.for %n = 0 to 8 {
    affine.for %c = 0 to 6 {
      affine.store %zero, %s[%n, %c] : memref<8x6xf32>
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "bmm", morph.role = "init"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %q[%n, %d] : memref<8x3xf32>
        %b = affine.load %k[%c, %d] : memref<6x3xf32>
        %t = affine.load %s[%n, %c] : memref<8x6xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %t, %p : f32
        affine.store %r, %s[%n, %c] : memref<8x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "bmm", morph.role = "main"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %q[%n + 4, %d] : memref<8x3xf32>
        %b = affine.load %k[%c, %d] : memref<6x3xf32>
        %t = affine.load %s[%n + 4, %c] : memref<8x6xf32>
        %p = arith.mulf %a, %b : f32
        %r = arith.addf %t, %p : f32
        affine.store %r, %s[%n + 4, %c] : memref<8x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "bmm", morph.role = "main"}
  affine.for %n = 0 to 8 {
    affine.for %c = 0 to 6 {
      %v = affine.load %s[%n, %c] : memref<8x6xf32>
      affine.store %v, %y[%n, %c] : memref<8x6xf32>
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "out", morph.role = "main"}
  return
}

// Starts from a row of biases: this gets longer too, with zeros behind it.
// CHECK-LABEL: func.func @biased
// CHECK:         %[[B:.*]] = memref.alloc() : memref<8xf32>
// CHECK:         %[[T:.*]] = memref.alloc() : memref<6x8xf32>
// CHECK:         affine.store %{{.*}}, %[[B]][%{{.*}} + 6] : memref<8xf32>
// CHECK:         affine.for %[[C:.*]] = 0 to 8 {
// CHECK-NEXT:      affine.load %[[B]][%[[C]]] : memref<8xf32>
// CHECK-NEXT:      affine.store %{{.*}}, %[[T]][%{{.*}}, %[[C]]] : memref<6x8xf32>
// CHECK:         layer = "fc", morph.role = "init"
// CHECK:         affine.for %[[C:.*]] = 0 to 8 {
// CHECK:           affine.store %{{.*}}, %[[T]][%{{.*}}, %[[C]]] : memref<6x8xf32>
// CHECK:         layer = "fc", morph.role = "main"
func.func @biased(%x: memref<6x3xf32>, %w: memref<6x3xf32> {morph.param = "fc.weight"},
                  %bias: memref<6xf32> {morph.param = "fc.bias"}, %y: memref<6x6xf32>) {
  %b = memref.alloc() : memref<6xf32>
  %t = memref.alloc() : memref<6x6xf32>
  affine.for %c = 0 to 6 {
    %v = affine.load %bias[%c] : memref<6xf32>
    affine.store %v, %b[%c] : memref<6xf32>
  } {morph.iter = "c", morph.layer = "fc", morph.role = "prologue"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      %v = affine.load %b[%c] : memref<6xf32>
      affine.store %v, %t[%n, %c] : memref<6x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "init"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      affine.for %d = 0 to 3 {
        %a = affine.load %x[%n, %d] : memref<6x3xf32>
        %k = affine.load %w[%c, %d] : memref<6x3xf32>
        %u = affine.load %t[%n, %c] : memref<6x6xf32>
        %p = arith.mulf %a, %k : f32
        %r = arith.addf %u, %p : f32
        affine.store %r, %t[%n, %c] : memref<6x6xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  affine.for %n = 0 to 6 {
    affine.for %c = 0 to 6 {
      %v = affine.load %t[%n, %c] : memref<6x6xf32>
      %e = math.exp %v : f32
      affine.store %e, %y[%n, %c] : memref<6x6xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "exp", morph.role = "main"}
  return
}

// Attention in windows: which keys are read depends on the window, an iterator of the result.
// CHECK-LABEL: func.func @windows
// CHECK:         %[[S:.*]] = memref.alloc() : memref<4x6x8xf32>
// CHECK:         %[[P:.*]] = memref.alloc() : memref<4x3x8xf32>
// CHECK:         affine.for %[[B:.*]] = 0 to 4 {
// CHECK-NEXT:      affine.for %[[CI:.*]] = 0 to 3 {
// CHECK-NEXT:        affine.for %[[CO:.*]] = 0 to 6 {
// CHECK-NEXT:          %[[V:.*]] = affine.load %{{.*}}[%[[CO]] + (%[[B]] floordiv 2) * 6, %[[CI]] + (%[[B]] mod 2) * 3] : memref<12x6xf32>
// CHECK-NEXT:          affine.store %[[V]], %[[P]][%[[B]], %[[CI]], %[[CO]]] : memref<4x3x8xf32>
// CHECK:         } {morph.iter = "b", morph.layer = "bmm", morph.node = "bmm", morph.role = "pack"}
// CHECK:         affine.load %[[P]][%{{.*}}, %{{.*}}, %{{.*}}] : memref<4x3x8xf32>
// CHECK-NOT:     affine.load %arg1
func.func @windows(%q: memref<4x6x3xf32>, %k: memref<12x6xf32>, %y: memref<4x6x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %s = memref.alloc() : memref<4x6x6xf32>
  affine.for %b = 0 to 4 {
    affine.for %n = 0 to 6 {
      affine.for %c = 0 to 6 {
        affine.store %zero, %s[%b, %n, %c] : memref<4x6x6xf32>
      } {morph.iter = "c"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "bmm", morph.node = "bmm", morph.role = "init"}
  affine.for %b = 0 to 4 {
    affine.for %n = 0 to 6 {
      affine.for %c = 0 to 6 {
        affine.for %d = 0 to 3 {
          %a = affine.load %q[%b, %n, %d] : memref<4x6x3xf32>
          %e = affine.load %k[%c + (%b floordiv 2) * 6, %d + (%b mod 2) * 3] : memref<12x6xf32>
          %t = affine.load %s[%b, %n, %c] : memref<4x6x6xf32>
          %p = arith.mulf %a, %e : f32
          %r = arith.addf %t, %p : f32
          affine.store %r, %s[%b, %n, %c] : memref<4x6x6xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "co"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "bmm", morph.node = "bmm", morph.role = "main"}
  affine.for %b = 0 to 4 {
    affine.for %n = 0 to 6 {
      affine.for %c = 0 to 6 {
        %v = affine.load %s[%b, %n, %c] : memref<4x6x6xf32>
        %e = math.exp %v : f32
        affine.store %e, %y[%b, %n, %c] : memref<4x6x6xf32>
      } {morph.iter = "c"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "exp", morph.role = "main"}
  return
}
