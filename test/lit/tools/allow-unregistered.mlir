// RUN: not loopmorph-opt %s 2>&1 | FileCheck %s --check-prefix=REFUSED
// RUN: loopmorph-opt %s --allow-unregistered-dialect | FileCheck %s

// REFUSED: error: {{.*}}allow-unregistered.mlir:[[# @LINE + 2]]:
// CHECK: "other.op"() : () -> ()
"other.op"() : () -> ()
