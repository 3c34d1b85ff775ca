// RUN: not loopmorph-opt %s --explain -p 'morph-interchange{layer=conv1 order=ow,oh}' 2>&1 | FileCheck %s
// RUN: not loopmorph-opt %s -p 'morph-interchange{layer=conv1 order=ow,oh}' 2>&1 | FileCheck %s --check-prefix=SHORT

// CHECK: error: layer 'conv1': the order ow, oh would reverse the flow dependence
// CHECK-NEXT: {{^}}  layer 'conv1' (main)
// CHECK-NEXT: {{^}}>   for oh < 8
// CHECK-NEXT: {{^}}      for ow < 8
// CHECK-NEXT: {{^}}>       load %arg0[oh, ow + 1]
// CHECK-NEXT: {{^}}        arith.addf
// CHECK-NEXT: {{^}}>       store %arg0[oh + 1, ow]
// CHECK-NOT: relu
// SHORT: error: layer 'conv1'
// SHORT-NOT: for oh
func.func @wavefront(%x: memref<9x9xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      %a = affine.load %x[%i, %j + 1] : memref<9x9xf32>
      %b = arith.addf %a, %a : f32
      affine.store %b, %x[%i + 1, %j] : memref<9x9xf32>
    } {morph.iter = "ow"}
  } {morph.iter = "oh", morph.layer = "conv1", morph.role = "main"}
  affine.for %i = 0 to 9 {
    %a = affine.load %x[%i, %i] : memref<9x9xf32>
    affine.store %a, %x[%i, %i] : memref<9x9xf32>
  } {morph.iter = "n", morph.layer = "relu", morph.role = "main"}
  return
}
