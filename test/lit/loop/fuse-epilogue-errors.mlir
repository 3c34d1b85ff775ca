// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-fuse-epilogue{layer=conv1}'

// expected-error@unknown {{layer 'conv1': its accumulators are not in registers; apply morph-promote first}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    affine.for %k = 0 to 8 {
      %s = affine.load %t[%c] : memref<16xf32>
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %s, %p : f32
      affine.store %n, %t[%c] : memref<16xf32>
    } {morph.iter = "ci"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %y[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; nothing reads its result}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; its result is read by 2 nests}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>, %z: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %y[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %z[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "other", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; its reader 'maxpool' is not element-wise: several of its points may write one element}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 8 {
    affine.for %k = 0 to 2 {
      %v = affine.load %t[%c * 2 + %k] : memref<16xf32>
      %o = affine.load %y[%c] : memref<16xf32>
      %r = arith.maximumf %v, %o : f32
      affine.store %r, %y[%c] : memref<16xf32>
    } {morph.iter = "kw"}
  } {morph.iter = "c", morph.layer = "maxpool", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; its reader 'relu' works in place}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; its reader 'relu' does not read exactly the elements that it stores, one per point}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[0] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %y[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; it reads what its reader 'relu' writes}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %w[%c, 0] : memref<16x8xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its start value stays in memory: no nest of the program writes it; its reader 'relu' cannot move up to it, as 'late' uses the memref that it writes in between, nor it down, as 'late' writes one of its operands in between}}
func.func @f(%w: memref<16x8xf32>, %y: memref<16xf32>) {
  %t = memref.alloc() : memref<16xf32>
  affine.for %c = 0 to 16 {
    %s = affine.load %t[%c] : memref<16xf32>
    %r = affine.for %k = 0 to 8 iter_args(%a = %s) -> (f32) {
      %p = affine.load %w[%c, %k] : memref<16x8xf32>
      %n = arith.addf %a, %p : f32
      affine.yield %n : f32
    } {morph.iter = "ci"}
    affine.store %r, %t[%c] : memref<16xf32>
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %y[%c] : memref<16xf32>
    affine.store %v, %w[%c, 0] : memref<16x8xf32>
  } {morph.iter = "c", morph.layer = "late", morph.role = "main"}
  affine.for %c = 0 to 16 {
    %v = affine.load %t[%c] : memref<16xf32>
    %r = math.absf %v : f32
    affine.store %r, %y[%c] : memref<16xf32>
  } {morph.iter = "c", morph.layer = "relu", morph.role = "main"}
  return
}
