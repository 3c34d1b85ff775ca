// What does not fit the comments is told, both ways.
// RUN: not loopmorph-opt %s --verify-diagnostics -p 'test-count-loops{limit=0}' 2>&1 | FileCheck %s

// CHECK: error: unexpected error: {{.*}}verify-mismatch.mlir:8:3: affine.for: 1 loops, more than the limit of 0
// CHECK: error: {{.*}}verify-mismatch.mlir:9: expected error 'no such thing' was not produced
// CHECK: error: {{.*}}verify-mismatch.mlir:10: expected warning 'nowhere' was not produced
func.func @one() {
  affine.for %i = 0 to 4 {}
  return // expected-error {{no such thing}}
  // expected-warning@unknown {{nowhere}}
}
