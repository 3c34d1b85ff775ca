// RUN: loopmorph-opt --list-passes | FileCheck %s
// RUN: loopmorph-opt --version | FileCheck %s --check-prefix=VERSION
// RUN: loopmorph-opt --help | FileCheck %s --check-prefix=HELP
// RUN: not loopmorph-opt --no-such-flag 2>&1 | FileCheck %s --check-prefix=USAGE

// CHECK: {{^}}test-count-loops
// CHECK-NEXT: Fails when the module has more than `limit` affine loops.
// CHECK-NEXT: limit=<integer> required
// CHECK: {{^}}test-rename-layer
// CHECK: to=<name> required
// CHECK-NEXT: only=<integer,...> default none
// CHECK-NEXT: mark=<true|false> default false
// CHECK-NEXT: tags=<name,...> default empty

// VERSION: loopmorph-opt {{[0-9]+\.[0-9]+}}
// VERSION-SAME: torch-mlir

// HELP: --verify-diagnostics

// USAGE: error: No such option '--no-such-flag'
