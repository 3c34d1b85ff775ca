// RUN: loopmorph-opt %s -p 'test-count-loops{limit=1},cse' --mlir-print-ir-after-all 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: loopmorph-opt %s -p 'test-count-loops{limit=1},test-rename-layer{layer=a to=b}' --mlir-print-ir-after-change 2>&1 | FileCheck %s --check-prefix=CHANGE
// RUN: loopmorph-opt %s -p 'test-count-loops{limit=1},cse' --mlir-timing 2>&1 | FileCheck %s --check-prefix=TIME
// RUN: loopmorph-opt %s --mlir-print-debuginfo | FileCheck %s --check-prefix=LOC

// ALL: IR Dump After test-count-loops: test-count-loops{limit=1}
// ALL: IR Dump After {{.*}}cse

// CHANGE-NOT: IR Dump After test-count-loops
// CHANGE: IR Dump After test-rename-layer: test-rename-layer{layer=a to=b}

// TIME: Execution time report
// TIME: test-count-loops

// LOC: loc("{{.*}}printing.mlir":17:3)
func.func @f(%x: memref<4xf32>, %v: f32) {
  affine.for %i = 0 to 4 {
    affine.store %v, %x[%i] : memref<4xf32>
  } {morph.layer = "a"}
  return
}
