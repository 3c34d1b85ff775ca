// RUN: not loopmorph-opt %s -p 'morph-split-prepare' 2>&1 | FileCheck %s
// CHECK: morph-split-prepare needs a function @main
func.func @other() {
  return
}
