// RUN: not loopmorph-opt %s -p 'morph-linalg-to-affine' 2>&1 | FileCheck %s
// CHECK: tensor<?xf32>
// CHECK-SAME: a dynamic shape; static shapes are required
func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}
