// RUN: loopmorph-opt %s -p 'morph-linalg-to-affine' --split-input-file | FileCheck %s

// A convolution: start value and main nest, iterators named, the result in an argument.
// CHECK-LABEL: func.func @conv
// CHECK-SAME: %[[X:[a-z0-9]+]]: memref<1x4x6x6xf32> {morph.input = 0 : i64}
// CHECK-SAME: %[[W:[a-z0-9]+]]: memref<8x4x3x3xf32> {morph.param = "conv.weight"}
// CHECK-SAME: %[[Y:[a-z0-9]+]]: memref<1x8x4x4xf32> {morph.output = 0 : i64}
// CHECK: affine.store %{{.+}}, %[[Y]]
// CHECK: morph.layer = "conv"
// CHECK-SAME: morph.role = "init"
// CHECK: affine.load %[[X]][%{{.+}}, %{{.+}}, %{{.+}} + %{{.+}}, %{{.+}} + %{{.+}}]
// CHECK: affine.load %[[W]]
// CHECK: morph.iter = "kw"
// CHECK-NEXT: morph.iter = "kh"
// CHECK-NEXT: morph.iter = "ci"
// CHECK-NEXT: morph.iter = "ow"
// CHECK-NEXT: morph.iter = "oh"
// CHECK-NEXT: morph.iter = "co"
// CHECK-NEXT: morph.iter = "n", morph.layer = "conv", morph.role = "main"
func.func @conv(%x: tensor<1x4x6x6xf32> {morph.input = 0 : i64},
                %w: tensor<8x4x3x3xf32> {morph.param = "conv.weight"}) -> tensor<1x8x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %0 = tensor.empty() : tensor<1x8x4x4xf32>
  %1 = linalg.fill {morph.layer = "conv"} ins(%zero : f32) outs(%0 : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %2 = linalg.conv_2d_nchw_fchw {morph.layer = "conv"}
      ins(%x, %w : tensor<1x4x6x6xf32>, tensor<8x4x3x3xf32>) outs(%1 : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  return %2 : tensor<1x8x4x4xf32>
}

// -----

// Reshapes and transposes become access maps; no loop of their own.
// CHECK-LABEL: func.func @views
// CHECK-NOT: memref.alloc
// CHECK: affine.load %{{.+}}[%[[J:.+]], %[[I:.+]]]
// CHECK: affine.store %{{.+}}, %{{.+}}[%[[I]], %[[J]]]
// CHECK-NOT: affine.for
func.func @views(%x: tensor<3x4xf32> {morph.input = 0 : i64}) -> tensor<4x3xf32> {
  %0 = tensor.empty() : tensor<4x3xf32>
  %1 = linalg.transpose ins(%x : tensor<3x4xf32>) outs(%0 : tensor<4x3xf32>) permutation = [1, 0]
  return %1 : tensor<4x3xf32>
}

// -----

// A pad is a constant nest and a copy; an argument that nobody reads is dropped.
// CHECK-LABEL: func.func @pad
// CHECK-NOT: "unused"
// CHECK: morph.role = "init"
// CHECK: affine.store %{{.+}}, %{{.+}}[%{{.+}} + 1]
// CHECK: morph.role = "pad"
func.func @pad(%x: tensor<4xf32> {morph.input = 0 : i64},
               %u: tensor<4xf32> {morph.param = "unused"}) -> tensor<6xf32> {
  %zero = arith.constant 0.0 : f32
  %0 = tensor.pad %x low[1] high[1] {
  ^bb0(%i: index):
    tensor.yield %zero : f32
  } : tensor<4xf32> to tensor<6xf32>
  return %0 : tensor<6xf32>
}
