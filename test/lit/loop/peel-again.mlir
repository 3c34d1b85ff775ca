// RUN: loopmorph-opt %s -p 'morph-peel{layer=fc iter=n size=2 again=3 suffix=.last}' | FileCheck %s
// RUN: not loopmorph-opt %s -p 'morph-peel{layer=fc iter=n size=2 again=6}' 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not loopmorph-opt %s -p 'morph-peel{layer=sum iter=n size=2 again=1}' 2>&1 | FileCheck %s --check-prefix=READS
// RUN: not loopmorph-opt %s -p 'morph-peel{layer=fc iter=n size=2 suffix=last}' 2>&1 | FileCheck %s --check-prefix=SUFFIX

// The last five of seven iterations, three of which the first loop has done already.
// CHECK:      affine.for %[[N:.*]] = 0 to 5 {
// CHECK-NEXT:   affine.load %{{.*}}[%[[N]]] : memref<7xf32>
// CHECK:      } {morph.iter = "n"}
// CHECK-NEXT: affine.for %[[R:.*]] = 0 to 5 {
// CHECK-NEXT:   affine.load %{{.*}}[%[[R]] + 2] : memref<7xf32>
// CHECK-NEXT:   affine.store %{{.*}}, %{{.*}}[%[[R]] + 2] : memref<7xf32>
// CHECK-NEXT: } {morph.iter = "n.last"}

// MANY: the number of iterations of 'n' that are done again must be between 0 and 5, got 6
// READS: layer 'sum': it reads what it writes, so that no iteration can be done again
// SUFFIX: argument 'suffix': expected a dot and a word, such as .rest, got 'last'
func.func @f(%x: memref<7xf32>, %y: memref<7xf32>, %z: memref<1xf32>) {
  affine.for %n = 0 to 7 {
    %a = affine.load %x[%n] : memref<7xf32>
    affine.store %a, %y[%n] : memref<7xf32>
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  affine.for %n = 0 to 7 {
    %a = affine.load %x[%n] : memref<7xf32>
    %b = affine.load %z[0] : memref<1xf32>
    %c = arith.addf %a, %b : f32
    affine.store %c, %z[0] : memref<1xf32>
  } {morph.iter = "n", morph.layer = "sum", morph.role = "main"}
  return
}
