// Passes of loopmorph, of a plug-in and of MLIR in one pipeline, from a file and from the standard input.
// RUN: loopmorph-opt %s -p 'test-rename-layer{layer=conv1 to=conv2 mark=true},canonicalize,func.func(affine-loop-unroll{unroll-factor=2}),test-count-loops{limit=1}' | FileCheck %s
// RUN: cat %s | loopmorph-opt --pass-pipeline='builtin.module(test-rename-layer{layer=conv1 to=conv2 mark},func.func(affine-loop-unroll{unroll-factor=2}))' | FileCheck %s
// RUN: loopmorph-opt %s -o %t.mlir && loopmorph-opt %t.mlir | FileCheck %s --check-prefix=SAME

// CHECK: morph.schedule = ["test-rename-layer{layer=conv1 to=conv2 mark=true}"]
// CHECK-LABEL: func.func @double
// CHECK: affine.for %{{.*}} = 0 to 64 step 2
// CHECK: morph.layer = "conv2", test.renamed

// SAME-NOT: morph.schedule
// SAME: affine.for %{{.*}} = 0 to 64 {
// SAME: morph.layer = "conv1"
func.func @double(%x: memref<64xf32>) {
  affine.for %i = 0 to 64 {
    %v = affine.load %x[%i] : memref<64xf32>
    %w = arith.addf %v, %v : f32
    affine.store %w, %x[%i] : memref<64xf32>
  } {morph.layer = "conv1"}
  return
}
