// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-fuse-nests{layer=a iters=n}'
// RUN: not loopmorph-opt %S/fuse-nests.mlir -p 'morph-fuse-nests{layer=a iters=k}' 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not loopmorph-opt %S/fuse-nests.mlir -p 'morph-fuse-nests{layer=a iters=c}' 2>&1 | FileCheck %s --check-prefix=ORDER

// NAME: layer 'a' has no iterator 'k'; it has n, c
// ORDER: layer 'a': its outermost loops are not c, perfectly nested

// expected-error@unknown {{layer 'a': the prologue nest of 'a' and 'a' may touch one element of a memref (memref<4x8xf32>) in different iterations}}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "prologue"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[3 - %n, %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': no other nest of the layer begins with 'n' and shares a local memref with it alone}}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "m", morph.layer = "a", morph.role = "prologue"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[%n, %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': no other nest of the layer begins with 'n' and shares a local memref with it alone}}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>, %t: memref<4x8xf32>) {
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "prologue"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[%n, %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': 'b', in between, touches what its nests touch}}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "prologue"}
  affine.for %i = 0 to 4 {
    %zero = arith.constant 0.0 : f32
    affine.store %zero, %x[%i, 0] : memref<4x8xf32>
  } {morph.iter = "i", morph.layer = "b"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[%n, %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'a': 'c' is parallel already; mark it afterwards}}
func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
  %t = memref.alloc() : memref<4x8xf32>
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %x[%n, %c] : memref<4x8xf32>
      affine.store %v, %t[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c", morph.parallel}
  } {morph.iter = "n", morph.layer = "a", morph.role = "prologue"}
  affine.for %n = 0 to 4 {
    affine.for %c = 0 to 8 {
      %v = affine.load %t[%n, %c] : memref<4x8xf32>
      affine.store %v, %y[%n, %c] : memref<4x8xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "a", morph.role = "main"}
  return
}
