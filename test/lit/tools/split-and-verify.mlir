// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'test-count-loops{limit=1}' | FileCheck %s

// CHECK-LABEL: func.func @fine
// CHECK: // -----
// CHECK-LABEL: func.func @last
func.func @fine() {
  affine.for %i = 0 to 4 {}
  return
}

// -----

func.func @two() {
  affine.for %i = 0 to 4 {}
  affine.for %i = 0 to 4 {} // expected-error {{2 loops, more than the limit of 1}}
  return
}

// -----

func.func @nested() {
  affine.for %i = 0 to 4 {
    // expected-error@below {{2 loops}}
    affine.for %j = 0 to 4 {}
  }
  return
}

// -----

// expected-error@+1 {{expected non-function type}}
func.func @malformed( {

// -----

func.func @returns() -> i32 {
  return
  // expected-error@above {{has 0 operands, but enclosing function (@returns) returns 1}}
  // expected-note@-2 {{see current operation}}
}

// -----

func.func @last() {
  return
}
