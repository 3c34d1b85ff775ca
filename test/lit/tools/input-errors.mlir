// Input that cannot be read gives one line with the place.
// RUN: not loopmorph-opt %s 2>&1 | FileCheck %s
// RUN: not loopmorph-opt < %s 2>&1 | FileCheck %s --check-prefix=STDIN
// RUN: not loopmorph-opt %s.missing 2>&1 | FileCheck %s --check-prefix=MISSING

// CHECK-NOT: Traceback
// CHECK: error: {{.*}}input-errors.mlir:[[# @LINE + 4]]:24: 'arith.addi' op
// STDIN: error: -:{{[0-9]+}}:24: 'arith.addi' op
// MISSING: error: cannot read '{{.*}}.missing': No such file or directory
func.func @f(%x: f32) {
                       "arith.addi"(%x, %x) : (f32, f32) -> f32
  return
}
