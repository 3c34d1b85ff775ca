// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-parallelize{layer=conv1 iter=ci}'

// expected-error@unknown {{layer 'conv1': 'ci' cannot run in parallel: store %arg1[co] is a reduction over 'ci'}}
func.func @reduction(%x: memref<8x4xf32>, %y: memref<8xf32>) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 4 {
      %a = affine.load %x[%i, %j] : memref<8x4xf32>
      %b = affine.load %y[%i] : memref<8xf32>
      %s = arith.addf %a, %b : f32
      affine.store %s, %y[%i] : memref<8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'ci' cannot run in parallel: the flow dependence from store %arg0[ci + 1] to load %arg0[ci], carried by 'ci' at distance (ci=1)}}
func.func @recurrence(%x: memref<9xf32>) {
  affine.for %i = 0 to 8 {
    %a = affine.load %x[%i] : memref<9xf32>
    affine.store %a, %x[%i + 1] : memref<9xf32>
  } {morph.iter = "ci", morph.layer = "conv1"}
  return
}

// -----

// A dependence that the loop around carries crosses the chunks too: there is no barrier within a nest.
// expected-error@unknown {{'ci' cannot run in parallel: the flow dependence from store %arg0[t + 1, ci] to load %arg0[t, ci + 1], carried by 't' at distance (t=1, ci=-1)}}
func.func @wavefront(%x: memref<9x9xf32>) {
  affine.for %t = 0 to 8 {
    affine.for %i = 0 to 8 {
      %a = affine.load %x[%t, %i + 1] : memref<9x9xf32>
      affine.store %a, %x[%t + 1, %i] : memref<9x9xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "t", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{'ci' cannot run in parallel: store %arg1[co] lies outside it}}
func.func @outside(%x: memref<8x4xf32>, %y: memref<8xf32>, %c: f32) {
  affine.for %i = 0 to 8 {
    affine.store %c, %y[%i] : memref<8xf32>
    affine.for %j = 0 to 4 {
      affine.store %c, %x[%i, %j] : memref<8x4xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{'ci' cannot run in parallel: its bounds are not constant}}
func.func @triangle(%x: memref<8x8xf32>, %c: f32) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to affine_map<(d0) -> (d0 + 1)>(%i) {
      affine.store %c, %x[%i, %j] : memref<8x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'ci' is already parallel}}
func.func @twice(%x: memref<8x8xf32>, %c: f32) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      affine.store %c, %x[%i, %j] : memref<8x8xf32>
    } {morph.iter = "ci", morph.parallel}
  } {morph.iter = "co", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'co' is already parallel; one loop of a nest can be}}
func.func @inside(%x: memref<8x8xf32>, %c: f32) {
  affine.for %i = 0 to 8 {
    affine.for %j = 0 to 8 {
      affine.store %c, %x[%i, %j] : memref<8x8xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.parallel}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'ci' cannot run in parallel: it carries values in registers (iter_args)}}
func.func @registers(%x: memref<8x4xf32>, %y: memref<8xf32>, %c: f32) {
  affine.for %i = 0 to 8 {
    %s = affine.for %j = 0 to 4 iter_args(%t = %c) -> (f32) {
      %a = affine.load %x[%i, %j] : memref<8x4xf32>
      %u = arith.addf %a, %t : f32
      affine.yield %u : f32
    } {morph.iter = "ci"}
    affine.store %s, %y[%i] : memref<8xf32>
  } {morph.iter = "co", morph.layer = "conv1"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'ci' cannot run in parallel: it has 1 iteration}}
func.func @single(%x: memref<1xf32>, %c: f32) {
  affine.for %i = 0 to 1 {
    affine.store %c, %x[%i] : memref<1xf32>
  } {morph.iter = "ci", morph.layer = "conv1"}
  return
}
