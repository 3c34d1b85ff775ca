// RUN: loopmorph-opt %s -p 'morph-mix{layer=a iter=co}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-mix{layer=a iter=ci}' | FileCheck %s --check-prefix=IN
// RUN: loopmorph-opt %s -p 'morph-mix{layer=a iter=co},morph-bottleneck{layer=a iter=co factor=2}' | FileCheck %s --check-prefix=BETWEEN

// CHECK: %[[W:[a-z0-9]+]]: memref<8x4xf32> {morph.param = "a.weight"}, %[[P:[a-z0-9]+]]: memref<8x8xf32> {morph.identity = 8 : i64, morph.param = "a.mix"}, %[[Y:[a-z0-9]+]]: memref<1x8xf32> {morph.output = 0 : i64})
// CHECK: %[[M:.*]] = memref.alloc() : memref<1x8xf32>
// CHECK: affine.store %{{.*}}, %[[M]][0, %{{.*}}] : memref<1x8xf32>
// CHECK-NEXT: } {morph.iter = "c", morph.layer = "a", morph.node = "mm", morph.role = "init"}
// CHECK: affine.load %[[M]]
// CHECK: affine.store %{{.*}}, %[[M]][0, %{{.*}}] : memref<1x8xf32>
// CHECK: morph.role = "main"
// CHECK: affine.store %{{.*}}, %[[Y]][%{{.*}}, %{{.*}}] : memref<1x8xf32>
// CHECK: morph.role = "init"}
// CHECK: affine.for %[[N:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[CO:.*]] = 0 to 8 {
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 8 {
// CHECK-NEXT: %[[A:.*]] = affine.load %[[M]][%[[N]], %[[CI]]] : memref<1x8xf32>
// CHECK-NEXT: %[[B:.*]] = affine.load %[[P]][%[[CO]], %[[CI]]] : memref<8x8xf32>
// CHECK-NEXT: %[[OLD:.*]] = affine.load %[[Y]][%[[N]], %[[CO]]] : memref<1x8xf32>
// CHECK-NEXT: %[[AB:.*]] = arith.mulf %[[A]], %[[B]] : f32
// CHECK-NEXT: %[[NEW:.*]] = arith.addf %[[OLD]], %[[AB]] : f32
// CHECK-NEXT: affine.store %[[NEW]], %[[Y]][%[[N]], %[[CO]]] : memref<1x8xf32>
// CHECK-NEXT: } {morph.iter = "ci"}
// CHECK-NEXT: } {morph.iter = "co"}
// CHECK-NEXT: } {morph.iter = "n", morph.layer = "a", morph.node = "mm", morph.role = "mix"}
// CHECK-NEXT: return

// The copy into the padded input reads what has been mixed.
// IN: %[[X:[a-z0-9]+]]: memref<1x4xf32> {morph.input = 0 : i64}
// IN-SAME: %[[P:[a-z0-9]+]]: memref<4x4xf32> {morph.identity = 4 : i64, morph.param = "a.mix_in"}
// IN: %[[M:.*]] = memref.alloc() : memref<1x4xf32>
// IN: affine.load %[[X]][%{{.*}}, %{{.*}}] : memref<1x4xf32>
// IN: affine.load %[[P]]
// IN: affine.store %{{.*}}, %[[M]]
// IN: morph.role = "mix-in"
// IN: affine.load %[[M]]
// IN: morph.role = "pad"
// IN-NOT: %[[X]][

// BETWEEN: memref<4x4xf32> {{{.*}}morph.param = "a.weight"}, %{{.*}}: memref<8x4xf32> {morph.identity = 8 : i64, morph.inherit = affine_map<(d0, d1) -> (d0, d1)>, morph.param = "a.mix"}, %{{.*}}: memref<1x8xf32> {morph.output = 0 : i64})
func.func @main(%x: memref<1x4xf32> {morph.input = 0 : i64}, %w: memref<8x4xf32> {morph.param = "a.weight"},
                %y: memref<1x8xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  %padded = memref.alloc() : memref<1x4x2xf32>
  affine.for %c = 0 to 4 {
    %0 = affine.load %x[0, %c] : memref<1x4xf32>
    affine.store %0, %padded[0, %c, 1] : memref<1x4x2xf32>
  } {morph.iter = "c", morph.layer = "a", morph.node = "mm", morph.role = "pad"}
  affine.for %c = 0 to 8 {
    affine.store %zero, %y[0, %c] : memref<1x8xf32>
  } {morph.iter = "c", morph.layer = "a", morph.node = "mm", morph.role = "init"}
  affine.for %co = 0 to 8 {
    affine.for %ci = 0 to 4 {
      %0 = affine.load %padded[0, %ci, 1] : memref<1x4x2xf32>
      %1 = affine.load %w[%co, %ci] : memref<8x4xf32>
      %2 = affine.load %y[0, %co] : memref<1x8xf32>
      %3 = arith.mulf %0, %1 : f32
      %4 = arith.addf %2, %3 : f32
      affine.store %4, %y[0, %co] : memref<1x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "a", morph.node = "mm", morph.role = "main"}
  return
}
