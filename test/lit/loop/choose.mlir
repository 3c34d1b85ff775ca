// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv algorithm=direct block=1x2x1}' | FileCheck %s --check-prefix=CHOSEN
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv block=1x2x1},morph-choose{layer=conv block=1x4x1}' \
// RUN:   | FileCheck %s --check-prefix=AGAIN
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv block=1x2x1},morph-split{layer=conv iter=p factor=2}' \
// RUN:   | FileCheck %s --check-prefix=MOVED
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv block=1x2x1},morph-interchange{layer=conv order=ci,p,co}' \
// RUN:   | FileCheck %s --check-prefix=SWAPPED
// RUN: loopmorph-opt %s -p 'morph-choose{layer=conv block=1x2x1},morph-default-schedule{width=4}' \
// RUN:   | FileCheck %s --check-prefix=FOLLOWED
// RUN: loopmorph-opt %s -p 'morph-default-schedule{width=4}' | FileCheck %s --check-prefix=MODEL

// CHOSEN: morph.schedule = ["morph-choose{layer=conv algorithm=direct block=1x2x1}"]
// CHOSEN: {morph.algorithm = "direct", morph.block = "1x2x1", morph.iter = "p", morph.layer = "conv"}

// AGAIN: {morph.block = "1x4x1", morph.iter = "p", morph.layer = "conv"}

// MOVED: {morph.iter = "p.1"}
// MOVED-NEXT: {morph.block = "1x2x1", morph.iter = "p.0", morph.layer = "conv"}

// SWAPPED: {morph.iter = "p"}
// SWAPPED-NEXT: {morph.block = "1x2x1", morph.iter = "ci", morph.layer = "conv"}

// FOLLOWED: "morph-choose{layer=conv block=1x2x1}"
// FOLLOWED-SAME: "morph-choose{layer=conv algorithm=direct block=1x2x1}"
// FOLLOWED-SAME: "morph-split{layer=conv iter=p factor=2}"

// MODEL: "morph-choose{layer=conv algorithm=direct block=1x8x1}"
func.func @main(%x: memref<8x3xf32>, %w: memref<3x4xf32>, %y: memref<8x4xf32>) {
  affine.for %p = 0 to 8 {
    affine.for %co = 0 to 4 {
      affine.for %ci = 0 to 3 {
        %a = affine.load %x[%p, %ci] : memref<8x3xf32>
        %b = affine.load %w[%ci, %co] : memref<3x4xf32>
        %c = affine.load %y[%p, %co] : memref<8x4xf32>
        %m = arith.mulf %a, %b : f32
        %s = arith.addf %c, %m : f32
        affine.store %s, %y[%p, %co] : memref<8x4xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "p", morph.layer = "conv"}
  return
}
