// RUN: loopmorph-opt %s -p 'morph-parallelize{layer=conv1 iter=co}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-parallelize{layer=conv1 iter=co},morph-split{layer=conv1 iter=co factor=4}' \
// RUN:   | FileCheck %s --check-prefix=SPLIT
// RUN: loopmorph-opt %s -p 'morph-parallelize{layer=conv1 iter=co},morph-interchange{layer=conv1 order=ci,co}' \
// RUN:   | FileCheck %s --check-prefix=SWAP
// RUN: loopmorph-opt %s -p 'morph-parallelize-all{threads=4}' | FileCheck %s --check-prefix=ALL
// RUN: loopmorph-opt %s -p 'morph-parallelize-all{threads=3 function=other}' | FileCheck %s --check-prefix=NONE

// CHECK: } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co", morph.parallel}
// CHECK-NEXT: } {morph.iter = "n", morph.layer = "conv1"}

// SPLIT: } {morph.iter = "co.1"}
// SPLIT-NEXT: } {morph.iter = "co.0", morph.parallel}

// SWAP: } {morph.iter = "co", morph.parallel}
// SWAP-NEXT: } {morph.iter = "ci"}

// ALL: {morph.iter = "co", morph.parallel}

// NONE-NOT: morph.parallel
func.func @main(%x: memref<3x16xf32>, %w: memref<16x16xf32>, %y: memref<3x16xf32>) {
  affine.for %n = 0 to 3 {
    affine.for %co = 0 to 16 {
      affine.for %ci = 0 to 16 {
        %a = affine.load %x[%n, %ci] : memref<3x16xf32>
        %b = affine.load %w[%co, %ci] : memref<16x16xf32>
        %c = affine.load %y[%n, %co] : memref<3x16xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %y[%n, %co] : memref<3x16xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv1"}
  return
}
