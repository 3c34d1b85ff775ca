// RUN: loopmorph-opt %s -p 'morph-print-slow-code{width=8}' | FileCheck %s

// The function @run alone; most work first; what is in order is not named.
// CHECK:      // norm main: n=64 w=64, 8192 instructions
// CHECK-NEXT: //   no vectors: 'w' runs across the rows of memref<64x64xf32>
// CHECK-NEXT: //   a pass of its own over 32 KiB
// CHECK-NEXT: // head main: n=10 w=100 d=2, 4000 instructions
// CHECK-NEXT: //   no vectors: 'w' has 100 values, which fill no whole vectors of 8
// CHECK-NEXT: // act main: n=64 w=8, 1536 instructions
// CHECK-NEXT: //   strided vectors: they are put together or taken apart element by element
// CHECK-NEXT: //   calls for each number: math.log
// CHECK-NEXT: //   a pass of its own over 32 KiB
// CHECK-NEXT: // pool main: c=8 h=16 w=2, 1536 instructions
// CHECK-NEXT: //   channels not in blocks: memref<1x8x16x16xf32>
// CHECK-NOT:  // other
// CHECK-NOT:  // small
// CHECK-LABEL: func.func @run
func.func @run(%x: memref<64x64xf32>, %y: memref<64x64xf32>, %m: memref<10x2xf32>, %o: memref<10x100xf32>) {
  %c = arith.constant 2.0 : f32
  %k = arith.constant dense<2.0> : vector<8xf32>
  %p = memref.alloc() : memref<1x8x16x16xf32>
  affine.for %n = 0 to 64 {
    affine.for %w = 0 to 64 {
      %0 = affine.load %x[%w, %n] : memref<64x64xf32>
      %1 = arith.mulf %0, %c : f32
      affine.store %1, %y[%n, %w] : memref<64x64xf32>
    } {morph.iter = "w"}
  } {morph.iter = "n", morph.layer = "norm", morph.role = "main"}
  affine.for %n = 0 to 64 {
    affine.for %w = 0 to 8 {
      %0 = affine.load %x[%n, %w * 8] : memref<64x64xf32>
      %1 = affine.load %x[%n, %w * 8 + 1] : memref<64x64xf32>
      %2 = vector.from_elements %0, %1, %0, %1, %0, %1, %0, %1 : vector<8xf32>
      %3 = math.log %2 : vector<8xf32>
      %4 = arith.mulf %3, %k : vector<8xf32>
      %5 = vector.from_elements %1, %1, %0, %1, %0, %1, %0, %1 : vector<8xf32>
      %6 = vector.from_elements %1, %1, %1, %1, %0, %1, %0, %1 : vector<8xf32>
      affine.vector_store %4, %y[%n, %w * 8] : memref<64x64xf32>, vector<8xf32>
    } {morph.iter = "w"}
  } {morph.iter = "n", morph.layer = "act", morph.role = "main"}
  affine.for %n = 0 to 10 {
    affine.for %w = 0 to 100 {
      affine.for %d = 0 to 2 {
        %0 = affine.load %m[%n, %d] : memref<10x2xf32>
        %1 = affine.load %o[%n, %w] : memref<10x100xf32>
        %2 = arith.addf %0, %1 : f32
        affine.store %2, %o[%n, %w] : memref<10x100xf32>
      } {morph.iter = "d"}
    } {morph.iter = "w"}
  } {morph.iter = "n", morph.layer = "head", morph.role = "main"}
  affine.for %a = 0 to 8 {
    affine.for %h = 0 to 16 {
      affine.for %w = 0 to 2 {
        %0 = affine.vector_load %p[0, %a, %h, %w * 8] : memref<1x8x16x16xf32>, vector<8xf32>
        %1 = affine.vector_load %y[%h, %w * 8] : memref<64x64xf32>, vector<8xf32>
        %2 = arith.mulf %0, %k : vector<8xf32>
        %3 = arith.addf %1, %2 : vector<8xf32>
        %4 = arith.mulf %0, %3 : vector<8xf32>
        %5 = arith.addf %1, %4 : vector<8xf32>
        %6 = arith.addf %1, %5 : vector<8xf32>
        affine.vector_store %6, %y[%h, %w * 8] : memref<64x64xf32>, vector<8xf32>
      } {morph.iter = "w"}
    } {morph.iter = "h"}
  } {morph.iter = "c", morph.layer = "pool", morph.role = "main"}
  affine.for %n = 0 to 2 {
    affine.store %c, %y[%n, %n] : memref<64x64xf32>
  } {morph.iter = "n", morph.layer = "small", morph.role = "main"}
  return
}

func.func @prepare(%x: memref<64x64xf32>, %y: memref<64x64xf32>) {
  affine.for %n = 0 to 64 {
    affine.for %w = 0 to 64 {
      %0 = affine.load %x[%w, %n] : memref<64x64xf32>
      affine.store %0, %y[%n, %w] : memref<64x64xf32>
    } {morph.iter = "w"}
  } {morph.iter = "n", morph.layer = "other", morph.role = "main"}
  return
}
