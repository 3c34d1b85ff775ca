// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-peel{layer=fc iter=n size=4}'

// expected-error@unknown {{argument 'size': the number of iterations of 'n' must be between 1 and 3, got 4}}
func.func @all(%y: memref<4xf32>, %v: f32) {
  affine.for %n = 0 to 4 {
    affine.store %v, %y[%n] : memref<4xf32>
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': loop 'n' does not start at 0 with step 1}}
func.func @later(%y: memref<9xf32>, %v: f32) {
  affine.for %n = 1 to 9 {
    affine.store %v, %y[%n] : memref<9xf32>
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': the bounds of 'c' depend on 'n'}}
func.func @triangle(%y: memref<9x9xf32>, %v: f32) {
  affine.for %n = 0 to 9 {
    affine.for %c = 0 to affine_map<(d0) -> (d0 + 1)>(%n) {
      affine.store %v, %y[%n, %c] : memref<9x9xf32>
    } {morph.iter = "c"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': the extent of 'n' is no constant of at least 2}}
func.func @one(%y: memref<1xf32>, %v: f32) {
  affine.for %n = 0 to 1 {
    affine.store %v, %y[%n] : memref<1xf32>
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': the nest already has an iterator 'n.rest'}}
func.func @taken(%y: memref<9x9xf32>, %v: f32) {
  affine.for %n = 0 to 9 {
    affine.for %c = 0 to 9 {
      affine.store %v, %y[%n, %c] : memref<9x9xf32>
    } {morph.iter = "n.rest"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'fc': loop 'n' carries values in registers (iter_args)}}
func.func @carried(%x: memref<9xf32>, %y: memref<1xf32>, %v: f32) {
  affine.for %c = 0 to 1 {
    %s = affine.for %n = 0 to 9 iter_args(%a = %v) -> (f32) {
      %b = affine.load %x[%n] : memref<9xf32>
      %t = arith.addf %a, %b : f32
      affine.yield %t : f32
    } {morph.iter = "n"}
    affine.store %s, %y[%c] : memref<1xf32>
  } {morph.iter = "c", morph.layer = "fc", morph.role = "main"}
  return
}
