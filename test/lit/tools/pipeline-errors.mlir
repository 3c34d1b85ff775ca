// A wrong pipeline is a usage error, shown with a caret under the culprit.
// RUN: not loopmorph-opt %s -p 'csee' 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not loopmorph-opt %s -p 'cse,test-count-loops{limt=3}' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not loopmorph-opt %s -p 'func.func(test-count-loops{limit=3})' 2>&1 | FileCheck %s --check-prefix=ANCHOR
// RUN: not loopmorph-opt %s -p 'func.func(cse' 2>&1 | FileCheck %s --check-prefix=OPEN
// RUN: not loopmorph-opt %s -p 'affine-loop-unroll,affine-loop-tile' 2>&1 | FileCheck %s --check-prefix=NEST

// UNKNOWN: error: argument 'pipeline': unknown pass 'csee'; did you mean 'cse'?
// UNKNOWN-NEXT: {{^}}  csee
// UNKNOWN-NEXT: {{^}}  ^

// OPTION: error: argument 'pipeline': test-count-loops has no option 'limt' (it accepts limit); did you mean 'limit'?
// OPTION-NEXT: {{^}}  cse,test-count-loops{limt=3}
// OPTION-NEXT: {{^}}                       ^

// ANCHOR: test-count-loops works on the whole module and cannot stand in func.func(...)

// OPEN: unbalanced '('

// NEST: affine-loop-tile does not work on builtin.module; write func.func(affine-loop-tile)
module {}
