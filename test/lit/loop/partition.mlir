// RUN: loopmorph-opt %s -p 'morph-partition{layer=a iter=co sizes=16,48}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-partition{layer=a iter=ci parts=2}' | FileCheck %s --check-prefix=SUM
// RUN: loopmorph-opt %s -p 'morph-partition{layer=a iter=co sizes=16,0},morph-partition{layer=a#main.1 iter=co sizes=8,40}' | FileCheck %s --check-prefix=TWICE
// RUN: loopmorph-opt %s -p 'morph-partition{layer=a iter=co parts=2},morph-group{layer=a#main.1 iters=co,ci factor=2}' | FileCheck %s --check-prefix=GROUP
// RUN: loopmorph-opt %s -p 'morph-group{layer=a iters=co,ci factor=2},morph-partition{layer=a iter=co sizes=24,8}' | FileCheck %s --check-prefix=DIGIT

// CHECK: morph.schedule = ["morph-partition{layer=a iter=co sizes=16,48}"]
// CHECK: func.func @main(%{{.*}}: memref<32xf32> {morph.input = 0 : i64},
// CHECK-SAME: %[[W0:[a-z0-9]+]]: memref<16x32xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1)>, morph.param = "a.weight.part0", morph.source = "a.weight"},
// CHECK-SAME: %[[W1:[a-z0-9]+]]: memref<48x32xf32> {morph.inherit = affine_map<(d0, d1) -> (d0 + 16, d1)>, morph.param = "a.weight.part1", morph.source = "a.weight"},
// CHECK-SAME: %[[Y:[a-z0-9]+]]: memref<64xf32> {morph.output = 0 : i64})
// CHECK-NEXT: affine.for %[[CO:.*]] = 0 to 16 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 32 {
// CHECK-NEXT: affine.load %{{.*}}[%[[CI]]] : memref<32xf32>
// CHECK-NEXT: affine.load %[[W0]][%[[CO]], %[[CI]]] : memref<16x32xf32>
// CHECK: affine.store %{{.*}}, %[[Y]][%[[CO]]] : memref<64xf32>
// CHECK-NEXT: } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
// CHECK-NEXT: affine.for %[[CO:.*]] = 0 to 48 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 32 {
// CHECK-NEXT: affine.load %{{.*}}[%[[CI]]] : memref<32xf32>
// CHECK-NEXT: affine.load %[[W1]][%[[CO]], %[[CI]]] : memref<48x32xf32>
// CHECK: affine.store %{{.*}}, %[[Y]][%[[CO]] + 16] : memref<64xf32>
// CHECK-NEXT: } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
// CHECK-NEXT: return

// The parts of a reduction add to the same result.
// SUM: morph.param = "a.weight.part0"
// SUM-SAME: memref<64x16xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1 + 16)>, morph.param = "a.weight.part1"
// SUM: affine.load %{{.*}}[%{{.*}} + 16] : memref<32xf32>
// SUM-NEXT: affine.load %{{.*}}[%{{.*}}, %{{.*}}] : memref<64x16xf32>

// TWICE: memref<16x32xf32> {{{.*}}morph.param = "a.weight.part0"
// TWICE-SAME: memref<8x32xf32> {morph.inherit = affine_map<(d0, d1) -> (d0 + 16, d1)>, morph.param = "a.weight.part1.part0", morph.source = "a.weight"}
// TWICE-SAME: memref<40x32xf32> {morph.inherit = affine_map<(d0, d1) -> (d0 + 24, d1)>, morph.param = "a.weight.part1.part1", morph.source = "a.weight"}
// TWICE: affine.for %{{.*}} = 0 to 16 {
// TWICE: affine.for %{{.*}} = 0 to 8 {
// TWICE: affine.for %[[CO:.*]] = 0 to 40 {
// TWICE: affine.store %{{.*}}, %{{.*}}[%[[CO]] + 24] : memref<64xf32>

// GROUP: memref<32x32xf32> {{{.*}}morph.param = "a.weight.part0"
// GROUP-SAME: memref<32x16xf32> {morph.inherit = affine_map<(d0, d1) -> (d0 + 32, d1 + (d0 floordiv 16) * 16)>, morph.param = "a.weight.part1"
// GROUP: affine.for %{{.*}} = 0 to 32 {
// GROUP: affine.for %[[G:.*]] = 0 to 2 {
// GROUP: affine.for %[[CO:.*]] = 0 to 16 {
// GROUP: affine.store %{{.*}}, %{{.*}}[%[[G]] * 16 + %[[CO]] + 32] : memref<64xf32>

// A digit of an index: each group gives its share to every part.
// DIGIT: memref<48x16xf32> {morph.inherit = {{.*}}, morph.param = "a.weight.part0"
// DIGIT-SAME: memref<16x16xf32> {morph.inherit = {{.*}}, morph.param = "a.weight.part1"
// DIGIT: affine.load %{{.*}}[%[[G:.*]] * 24 + %{{.*}}, %{{.*}}] : memref<48x16xf32>
// DIGIT: affine.load %{{.*}}[%[[G:.*]] * 8 + %{{.*}}, %{{.*}}] : memref<16x16xf32>
func.func @main(%x: memref<32xf32> {morph.input = 0 : i64}, %w: memref<64x32xf32> {morph.param = "a.weight"},
                %y: memref<64xf32> {morph.output = 0 : i64}) {
  affine.for %co = 0 to 64 {
    affine.for %ci = 0 to 32 {
      %0 = affine.load %x[%ci] : memref<32xf32>
      %1 = affine.load %w[%co, %ci] : memref<64x32xf32>
      %2 = affine.load %y[%co] : memref<64xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[%co] : memref<64xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
  return
}
