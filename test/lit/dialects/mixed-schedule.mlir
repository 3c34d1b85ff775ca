// RUN: loopmorph-opt %s --transform %S/Inputs/mixed.mlir | FileCheck %s
// RUN: loopmorph-opt %s --transform %S/Inputs/mixed.mlir -p 'test-count-loops{limit=2}' | FileCheck %s
// RUN: loopmorph-opt %S/Inputs/mixed.mlir | loopmorph-opt | FileCheck %s --check-prefix=ROUND

// CHECK: morph.schedule = ["test-rename-layer{layer=a to=c tags=seen}", "test-rename-layer{layer=b to=d only=0}"]
// CHECK-LABEL: func.func @first
// CHECK: affine.for %{{.*}} = 0 to 64 {
// CHECK: morph.layer = "c", seen
// CHECK-LABEL: func.func @second
// CHECK: affine.for %{{.*}} = 0 to 64 step 4 {
// CHECK: morph.layer = "d"

// ROUND: "morph.test_rename_layer"(%{{.*}}) {layer = "a", morph.kind = "loop", tags = ["seen"], to = "c"}
func.func @first(%x: memref<64xf32>, %v: f32) {
  affine.for %i = 0 to 64 {
    affine.store %v, %x[%i] : memref<64xf32>
  } {morph.layer = "a"}
  return
}

func.func @second(%x: memref<64xf32>, %v: f32) {
  affine.for %i = 0 to 64 {
    affine.store %v, %x[%i] : memref<64xf32>
  } {morph.layer = "b"}
  return
}
