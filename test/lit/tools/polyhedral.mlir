// RUN: loopmorph-opt %s --polyhedral | FileCheck %s
// RUN: loopmorph-opt %s -p morph-print-polyhedral | FileCheck %s --check-prefix=PASS
// RUN: loopmorph-opt %s --polyhedral-both -p 'morph-tile{layer=fc iters=co,ci sizes=5,16}' | FileCheck %s --check-prefix=BOTH

// CHECK: {{^}}---
// CHECK-NEXT: {{^}}nest: "fc#init"
// CHECK: {{^}}writes: |
// CHECK-NEXT: {{^}}  { fc_init_S0[n, co] -> output0[n, co] }
// CHECK: {{^}}---
// CHECK-NEXT: {{^}}nest: "fc"
// CHECK-NEXT: {{^}}function: "main"
// CHECK-NEXT: {{^}}memrefs:
// CHECK-NEXT: {{^}}  input0: "memref<1x64xf32>"
// CHECK-NEXT: {{^}}  fc_weight: "memref<10x64xf32>"
// CHECK-NEXT: {{^}}  output0: "memref<1x10xf32>"
// CHECK-NEXT: {{^}}domain: |
// CHECK-NEXT: {{^}}  { fc_main_S0[n = 0, co, ci] : 0 <= co <= 9 and 0 <= ci <= 63 }
// CHECK-NEXT: {{^}}reads: |
// CHECK-NEXT: {{^}}  { fc_main_S0[n, co, ci] -> input0[n, ci];
// CHECK-NEXT: {{^}}    fc_main_S0[n, co, ci] -> fc_weight[co, ci];
// CHECK-NEXT: {{^}}    fc_main_S0[n, co, ci] -> output0[n, co] }
// CHECK-NEXT: {{^}}writes: |
// CHECK-NEXT: {{^}}  { fc_main_S0[n, co, ci] -> output0[n, co] }
// CHECK-NEXT: {{^}}flow: |
// CHECK-NEXT: {{^}}  { fc_main_S0[n = 0, co, ci] -> fc_main_S0[n' = 0, co' = co, ci' = 1 + ci] : 0 <= co <= 9 and 0 <= ci <= 62 }
// CHECK-NEXT: {{^}}anti: |
// CHECK-NEXT: -> fc_main_S0[n' = 0, co' = co, ci' = 1 + ci]
// CHECK-NEXT: {{^}}output: |
// CHECK-NEXT: -> fc_main_S0[n' = 0, co' = co, ci' = 1 + ci]
// CHECK-NEXT: {{^}}reduction: |
// CHECK-NEXT: -> fc_main_S0[n' = 0, co' = co, ci' = 1 + ci]
// CHECK-NEXT: {{^}}schedule: |
// CHECK-NEXT: {{^}}  domain: "{ fc_main_S0[n = 0, co, ci] : 0 <= co <= 9 and 0 <= ci <= 63 }"
// CHECK-NEXT: {{^}}  child:
// CHECK-NEXT: {{^}}    schedule: "[{ fc_main_S0[n, co, ci] -> [(n)] }, { fc_main_S0[n, co, ci] -> [(co)] }, { fc_main_S0[n, co, ci] -> [(ci)] }]"
// CHECK-NEXT: {{^}}    permutable: 1
// CHECK-NEXT: {{^}}    coincident: [ 1, 1, 0 ]
// CHECK-NOT: module

// PASS: {{^}}// ---
// PASS-NEXT: {{^}}// nest: "fc#init"
// PASS: {{^}}//     coincident: [ 1, 1, 0 ]
// PASS-NEXT: {{^}}module {

// BOTH: {{^}}==== @main fc#init: unchanged
// BOTH-NEXT: {{^}}==== @main fc: before, after
// BOTH-NEXT: {{^}}memrefs: unchanged
// BOTH-NEXT: {{^}}domain: | {{ +}}domain: |
// BOTH-NEXT: {{^}}  { fc_main_S0[n = 0, co, ci] : {{.*}} |   { fc_main_S0[n = 0, co_0, ci_0, co_1, ci_1] :
// BOTH: coincident: [ 1, 1, 0 ] {{ +}}|     coincident: [ 1, 1, 0, 1, 0 ]

func.func @main(%x: memref<1x64xf32> {morph.input = 0 : i64}, %w: memref<10x64xf32> {morph.param = "fc.weight"},
                %y: memref<1x10xf32> {morph.output = 0 : i64}) {
  %zero = arith.constant 0.0 : f32
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 10 {
      affine.store %zero, %y[%n, %co] : memref<1x10xf32>
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "init"}
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 10 {
      affine.for %ci = 0 to 64 {
        %a = affine.load %x[%n, %ci] : memref<1x64xf32>
        %b = affine.load %w[%co, %ci] : memref<10x64xf32>
        %c = affine.load %y[%n, %co] : memref<1x10xf32>
        %p = arith.mulf %a, %b : f32
        %s = arith.addf %c, %p : f32
        affine.store %s, %y[%n, %co] : memref<1x10xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "fc", morph.role = "main"}
  return
}
