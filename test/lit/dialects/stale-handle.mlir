// A handle from before a morph step is refused by the interpreter, although the loop that it meant is gone.
// RUN: not loopmorph-opt %s --transform %S/Inputs/stale.mlir 2>&1 | FileCheck %s
// RUN: loopmorph-opt %s --transform %S/Inputs/stale.mlir --verify-diagnostics

// CHECK: error: schedule line 6, column 5: op uses a handle invalidated by a previously executed transform op
// expected-error@unknown {{op uses a handle invalidated}}
func.func @f(%x: memref<64xf32>, %v: f32) {
  affine.for %i = 0 to 64 {
    affine.store %v, %x[%i] : memref<64xf32>
  } {morph.layer = "a"}
  return
}
