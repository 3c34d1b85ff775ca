// RUN: loopmorph-opt %s -p 'morph-print-coupling' | FileCheck %s --check-prefix=NAMES
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=attn.proj iter=head factor=2 keep=1}' | FileCheck %s --check-prefix=HEAD
// RUN: loopmorph-opt %s -p 'morph-bottleneck{layer=attn.proj iter=feature factor=2},morph-bottleneck{layer=attn.qkv iter=value factor=2 keep=1}' | FileCheck %s --check-prefix=PARTS
// RUN: not loopmorph-opt %s -p 'morph-bottleneck{layer=attn.qkv iter=hidden factor=2}' 2>&1 | FileCheck %s --check-prefix=NAME

// An attention with one projection for the queries, keys and values of two heads with two features each, on five
// tokens. Heads and features are parts of the iterators of both projections, told by what the products read.

// NAMES: // named: head, attn|bmm b, of extent 2: attn.proj, attn.qkv, attn|bmm, attn|bmm_1
// NAMES-NEXT: // named: feature, attn|bmm ci, of extent 2: attn.proj, attn.qkv, attn|bmm, attn|bmm_1
// NAMES-NEXT: // named: value, attn|bmm_1 co, of extent 2: attn.proj, attn.qkv, attn|bmm, attn|bmm_1
// NAMES-NEXT: // named: token, attn|bmm_1 n, of extent 5
// NAMES-NEXT: // named: token2, attn|bmm_1 ci, of extent 5

// One head of two: a half of the projection's rows for queries, of those for keys and of those for values.
// HEAD: memref<6x4xf32> {morph.inherit = affine_map<(d0, d1) -> (d0 + (d0 floordiv 2) * 2 + 2, d1)>, morph.param = "attn.qkv.weight"}
// HEAD-SAME: memref<4x2xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1 + 2)>, morph.param = "attn.proj.weight"}
// HEAD: affine.for %[[B:.*]] = 0 to 1
// HEAD: affine.load %[[QKV:.*]][%{{.*}}, %[[B]] * 2 + %{{.*}}] : memref<5x6xf32>
// HEAD-NEXT: affine.load %[[QKV]][%{{.*}}, %[[B]] * 2 + %{{.*}} + 2] : memref<5x6xf32>
// HEAD: affine.load %[[QKV]][%{{.*}}, %{{.*}} * 2 + %{{.*}} + 4] : memref<5x6xf32>
// HEAD: affine.load %{{.*}}[%[[CI:.*]] floordiv 2, %{{.*}}, %[[CI]] mod 2] : memref<1x5x2xf32>

// One feature of queries and keys, and the other one of the values, which alone the output projection follows.
// PARTS: memref<6x4xf32> {morph.inherit = {{.*}}, morph.param = "attn.qkv.weight"}
// PARTS-SAME: memref<4x2xf32> {morph.inherit = affine_map<(d0, d1) -> (d0, d1 * 2 + 1)>, morph.param = "attn.proj.weight"}
// PARTS: affine.load %[[QKV:.*]][%{{.*}}, %[[B:.*]] + %[[F:.*]]] : memref<5x6xf32>
// PARTS-NEXT: affine.load %[[QKV]][%{{.*}}, %[[B]] + %[[F]] + 2] : memref<5x6xf32>
// PARTS: affine.load %[[QKV]][%{{.*}}, %[[B2:.*]] + %{{.*}} + 4] : memref<5x6xf32>
// PARTS: affine.load %{{.*}}[%[[CI:.*]], %{{.*}}, 0] : memref<2x5x1xf32>

// NAME: error: argument 'iter': layer 'attn.qkv' goes along no dimension 'hidden'; the iterators there are n, co, ci, the dimensions head, feature, value, token, token2
func.func @main(%x: memref<5x4xf32> {morph.input = 0 : i64}, %w: memref<12x4xf32> {morph.param = "attn.qkv.weight"},
                %v: memref<4x4xf32> {morph.param = "attn.proj.weight"}, %y: memref<5x4xf32> {morph.output = 0 : i64}) {
  %t = memref.alloc() : memref<5x12xf32>
  affine.for %n = 0 to 5 {
    affine.for %co = 0 to 12 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %x[%n, %ci] : memref<5x4xf32>
        %1 = affine.load %w[%co, %ci] : memref<12x4xf32>
        %2 = affine.load %t[%n, %co] : memref<5x12xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %t[%n, %co] : memref<5x12xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "attn.qkv", morph.node = "mm", morph.role = "main"}
  %s = memref.alloc() : memref<2x5x5xf32>
  affine.for %b = 0 to 2 {
    affine.for %n = 0 to 5 {
      affine.for %co = 0 to 5 {
        affine.for %ci = 0 to 2 {
          %0 = affine.load %t[%n, %b * 2 + %ci] : memref<5x12xf32>
          %1 = affine.load %t[%co, %b * 2 + %ci + 4] : memref<5x12xf32>
          %2 = affine.load %s[%b, %n, %co] : memref<2x5x5xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %s[%b, %n, %co] : memref<2x5x5xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "co"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "attn|bmm", morph.node = "bmm", morph.role = "main"}
  %c = memref.alloc() : memref<2x5x2xf32>
  affine.for %b = 0 to 2 {
    affine.for %n = 0 to 5 {
      affine.for %co = 0 to 2 {
        affine.for %ci = 0 to 5 {
          %0 = affine.load %s[%b, %n, %ci] : memref<2x5x5xf32>
          %1 = affine.load %t[%ci, %b * 2 + %co + 8] : memref<5x12xf32>
          %2 = affine.load %c[%b, %n, %co] : memref<2x5x2xf32>
          %3 = arith.mulf %0, %1 : f32
          %4 = arith.addf %2, %3 : f32
          affine.store %4, %c[%b, %n, %co] : memref<2x5x2xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "co"}
    } {morph.iter = "n"}
  } {morph.iter = "b", morph.layer = "attn|bmm_1", morph.node = "bmm", morph.role = "main"}
  affine.for %n = 0 to 5 {
    affine.for %co = 0 to 4 {
      affine.for %ci = 0 to 4 {
        %0 = affine.load %c[%ci floordiv 2, %n, %ci mod 2] : memref<2x5x2xf32>
        %1 = affine.load %v[%co, %ci] : memref<4x4xf32>
        %2 = affine.load %y[%n, %co] : memref<5x4xf32>
        %3 = arith.mulf %0, %1 : f32
        %4 = arith.addf %2, %3 : f32
        affine.store %4, %y[%n, %co] : memref<5x4xf32>
      } {morph.iter = "ci"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "attn.proj", morph.node = "mm", morph.role = "main"}
  return
}
