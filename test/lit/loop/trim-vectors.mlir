// RUN: sed 's/STEP/4/; s/FIRST/5/; s/LIVE/6/g; s/SIZE/16/g' %s > %t.apart.mlir
// RUN: loopmorph-opt %t.apart.mlir -p 'morph-trim{layer=a iter=kw}' | FileCheck %s --check-prefix=APART
// RUN: sed 's/STEP/1/; s/FIRST/1/; s/LIVE/8/g; s/SIZE/10/g' %s > %t.partly.mlir
// RUN: not loopmorph-opt %t.partly.mlir -p 'morph-trim{layer=a iter=kw}' 2>&1 | FileCheck %s --check-prefix=PARTLY

// Columns 5 to 10 are live: of the vectors of four columns at 0, 4, 8 and 12 just the first and the last are zeros.
// APART-DAG: #[[FIRST:.*]] = affine_map<(d0) -> (0, (d0 * -4 + 2) ceildiv 4)>
// APART-DAG: #[[PAST:.*]] = affine_map<(d0) -> (3, (d0 * -4 + 11) ceildiv 4)>
// APART: affine.for %[[OW:.*]] = 0 to 2 {
// APART: affine.for %{{.*}} = max #[[FIRST]](%[[OW]]) to min #[[PAST]](%[[OW]]) iter_args

// The first vector begins in a column of zeros, and its other lanes are live: nothing can be left out.
// PARTLY: layer 'a': loop 'kw' does not move all of its products' factors into padding by one index
func.func @f(%in: memref<LIVExf32>, %w: memref<3xf32>, %y: memref<8xf32>) {
  %z = arith.constant 0.0 : f32
  %zero = arith.constant dense<0.0> : vector<4xf32>
  %x = memref.alloc() : memref<SIZExf32>
  affine.for %b = 0 to SIZE {
    affine.store %z, %x[%b] : memref<SIZExf32>
  } {morph.iter = "b", morph.layer = "a", morph.role = "init"}
  affine.for %c = 0 to LIVE {
    %v = affine.load %in[%c] : memref<LIVExf32>
    affine.store %v, %x[%c + FIRST] : memref<SIZExf32>
  } {morph.iter = "c", morph.layer = "a", morph.role = "pad"}
  affine.for %ow = 0 to 2 {
    %r = affine.for %kw = 0 to 3 iter_args(%a = %zero) -> (vector<4xf32>) {
      %v = affine.vector_load %x[%ow * 4 + %kw * STEP] : memref<SIZExf32>, vector<4xf32>
      %k = affine.load %w[%kw] : memref<3xf32>
      %l = vector.broadcast %k : f32 to vector<4xf32>
      %p = arith.mulf %v, %l : vector<4xf32>
      %s = arith.addf %a, %p : vector<4xf32>
      affine.yield %s : vector<4xf32>
    } {morph.iter = "kw"}
    affine.vector_store %r, %y[%ow * 4] : memref<8xf32>, vector<4xf32>
  } {morph.iter = "ow", morph.layer = "a", morph.role = "main"}
  return
}
