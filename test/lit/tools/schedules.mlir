// RUN: loopmorph-opt --list-schedules | FileCheck %s --check-prefix=LIST
// RUN: loopmorph-opt %s --transform seq1 --set layer=a --set g0=4,g1=8 | FileCheck %s
// RUN: not loopmorph-opt %s --transform seq5 --set layer=a 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not loopmorph-opt %s --transform seq1 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not loopmorph-opt %s --transform seq1 --set layer=a,g2=2 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not loopmorph-opt %s --transform seq1 --set layer=a,g1=few 2>&1 | FileCheck %s --check-prefix=TYPE
// RUN: not loopmorph-opt %s --set layer=a 2>&1 | FileCheck %s --check-prefix=ALONE
// RUN: not loopmorph-opt %s --transform seq1 --set layer 2>&1 | FileCheck %s --check-prefix=PAIR
// RUN: not loopmorph-opt %s --transform seq1 --set layer=a,layer=b 2>&1 | FileCheck %s --check-prefix=DOUBLE

// LIST: {{^}}seq2
// LIST-NEXT: Seq2: the first u outputs stay a full convolution
// LIST-NEXT: layer=<name> required: the convolution
// LIST-NEXT: u=<integer> default 16: outputs that stay as they are

// CHECK: memref<8x4xf32> {{{.*}}morph.param = "a.weight.part0"
// CHECK-SAME: memref<8x2xf32> {{{.*}}morph.param = "a.weight.part1"

// UNKNOWN: error: argument 'name': no schedule 'seq5'; there are block-diagonal, bottleneck-block,
// MISSING: error: argument 'layer': schedule 'seq1' needs a name: the convolution
// OTHER: error: argument 'g2': unknown parameter of schedule 'seq1'; it has layer, g0, g1
// TYPE: error: argument 'g1': schedule 'seq1': expected an integer (groups of the second half), got 'few'
// ALONE: error: argument '--set': there is no schedule to set parameters of; name one with --transform
// PAIR: error: argument '--set': expected NAME=VALUE,..., got 'layer'
// DOUBLE: error: argument '--set': 'layer' is given twice
func.func @main(%x: memref<16xf32> {morph.input = 0 : i64}, %w: memref<16x16xf32> {morph.param = "a.weight"},
                %y: memref<16xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 16 {
    affine.for %ci = 0 to 16 {
      %0 = affine.load %x[%ci] : memref<16xf32>
      %1 = affine.load %w[%co, %ci] : memref<16x16xf32>
      %2 = affine.load %y[%co] : memref<16xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<16xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
  return
}
