// Started afresh, the commands give what they give where they are forked from a process that has loaded them.
// RUN: %python -m loopmorph.tools.opt %s -p 'morph-split{layer=mm iter=co factor=4}' > %t.fresh.mlir
// RUN: loopmorph-opt %s -p 'morph-split{layer=mm iter=co factor=4}' > %t.forked.mlir
// RUN: diff %t.fresh.mlir %t.forked.mlir
// RUN: FileCheck %s --input-file %t.fresh.mlir
// RUN: %python -m filecheck %s --input-file %t.fresh.mlir
// RUN: not %python -m loopmorph.tools.opt %S/nowhere.mlir 2> %t.fresh.txt
// RUN: not loopmorph-opt %S/nowhere.mlir 2> %t.forked.txt
// RUN: diff %t.fresh.txt %t.forked.txt

// CHECK: morph.iter = "co.1"
// CHECK: morph.iter = "co.0"
func.func @f(%y: memref<16xf32>, %v: f32) {
  affine.for %co = 0 to 16 {
    affine.store %v, %y[%co] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "mm", morph.node = "mm", morph.role = "main"}
  return
}
