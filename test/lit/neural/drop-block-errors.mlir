// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-drop-block{layer=a}'

// expected-error@unknown {{layer 'a': the result of 'b', which reads it, is also read by 'gate', not by the sum 'sum' alone}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  %u = memref.alloc() : memref<8xf32>
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
    %1 = affine.load %x[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %s[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %s[%c] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %y[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "gate", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': it is in no branch of a residual block: no sum reads what is made of its result as one operand alone}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %y[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': its result is also read by 'gate', not by the sum 'sum' alone}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wb: memref<8x8xf32> {morph.param = "b.weight"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<8xf32>
  %u = memref.alloc() : memref<8xf32>
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
    %1 = affine.load %x[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %s[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %t[%c] : memref<8xf32>
    %1 = affine.load %s[%c] : memref<8xf32>
    %2 = arith.mulf %0, %1 : f32
    affine.store %2, %y[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "gate", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': the other operand of the sum 'sum' is not made of what goes into the branch, so that it is no skip}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64},
                %z: memref<8xf32> {morph.input = 1 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %u = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %z[%c] : memref<8xf32>
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

// expected-error@unknown {{layer 'a': the sum 'sum' reads its other operand at other places than it gives}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64},
                %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"},
                %y: memref<8xf32> {morph.output = 0 : i64}) {
  %u = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %x[-%c + 7] : memref<8xf32>
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

// expected-error@unknown {{layer 'a': the other operand of the sum 'sum' has shape (1,), the sum (8,); they have to be the same}}
func.func @main(%x: memref<1xf32> {morph.input = 0 : i64}, %wa: memref<8x1xf32> {morph.param = "a.weight"},
                %wc: memref<8x8xf32> {morph.param = "c.weight"}, %y: memref<8xf32> {morph.output = 0 : i64}) {
  %u = memref.alloc() : memref<8xf32>
  %s = memref.alloc() : memref<8xf32>
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 1 {
      %0 = affine.load %x[%ci] : memref<1xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x1xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %x[0] : memref<1xf32>
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

// expected-error@unknown {{layer 'a': its result is an output of the network}}
func.func @main(%x: memref<8xf32> {morph.input = 0 : i64}, %wa: memref<8x8xf32> {morph.param = "a.weight"},
                %u: memref<8xf32> {morph.output = 0 : i64}, %y: memref<8xf32> {morph.output = 1 : i64}) {
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 8 {
      %0 = affine.load %x[%ci] : memref<8xf32>
      %1 = affine.load %wa[%co, %ci] : memref<8x8xf32>
      %2 = affine.load %u[%co] : memref<8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %u[%co] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.role = "main"}
  affine.for %c = 0 to 8 {
    %0 = affine.load %u[%c] : memref<8xf32>
    %1 = affine.load %x[%c] : memref<8xf32>
    %2 = arith.addf %0, %1 : f32
    affine.store %2, %y[%c] : memref<8xf32>
  } {morph.iter = "c", morph.layer = "sum", morph.role = "main"}
  return
}
