// RUN: loopmorph-opt %s -p 'morph-keep-nans' --split-input-file | FileCheck %s

#id = affine_map<(d0) -> (d0)>
#scalar = affine_map<(d0) -> ()>

// A clamp from below: the comparison takes the bound only where it is true of numbers.
// CHECK-LABEL: func.func @clamp
// CHECK: ^bb0(%[[X:[a-z0-9_]+]]: f32
// CHECK: %[[LESS:.+]] = arith.cmpf olt, %[[X]], %[[LOW:.+]] : f32
// CHECK: arith.select %[[LESS]], %[[LOW]], %[[X]] : f32
func.func @clamp(%x: tensor<4xf32>) -> tensor<4xf32> {
  %low = arith.constant 0.5 : f32
  %0 = tensor.empty() : tensor<4xf32>
  %1 = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%0 : tensor<4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %less = arith.cmpf ult, %in, %low : f32
    %r = arith.select %less, %low, %in : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

#id = affine_map<(d0) -> (d0)>
#scalar = affine_map<(d0) -> ()>

// The bound as an operand of rank 0: the value is chosen also where it is NaN.
// CHECK-LABEL: func.func @operand
// CHECK: ^bb0(%[[X:[a-z0-9_]+]]: f32, %[[LOW:[a-z0-9_]+]]: f32
// CHECK: %[[MORE:.+]] = arith.cmpf ugt, %[[X]], %[[LOW]] : f32
// CHECK: arith.select %[[MORE]], %[[X]], %[[LOW]] : f32
func.func @operand(%x: tensor<4xf32>) -> tensor<4xf32> {
  %low = arith.constant dense<0.5> : tensor<f32>
  %0 = tensor.empty() : tensor<4xf32>
  %1 = linalg.generic {indexing_maps = [#id, #scalar, #id], iterator_types = ["parallel"]}
      ins(%x, %low : tensor<4xf32>, tensor<f32>) outs(%0 : tensor<4xf32>) {
  ^bb0(%in: f32, %bound: f32, %out: f32):
    %more = arith.cmpf ogt, %in, %bound : f32
    %r = arith.select %more, %in, %bound : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

#id = affine_map<(d0) -> (d0)>

// Two values, either of which may be NaN.
// CHECK-LABEL: func.func @minimum
// CHECK: ^bb0(%[[X:[a-z0-9_]+]]: f32, %[[Y:[a-z0-9_]+]]: f32
// CHECK: %[[R:.+]] = arith.minimumf %[[X]], %[[Y]] : f32
// CHECK: linalg.yield %[[R]]
func.func @minimum(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = tensor.empty() : tensor<4xf32>
  %1 = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%x, %y : tensor<4xf32>, tensor<4xf32>) outs(%0 : tensor<4xf32>) {
  ^bb0(%in: f32, %other: f32, %out: f32):
    %less = arith.cmpf olt, %in, %other : f32
    %r = arith.select %less, %in, %other : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

#id = affine_map<(d0) -> (d0)>
#scalar = affine_map<(d0) -> ()>

// The position of the largest element: that of the first NaN, where there is one.
// CHECK-LABEL: func.func @position
// CHECK: ^bb0(%[[X:[a-z0-9_]+]]: f32, %[[MOST:[a-z0-9_]+]]: f32, %[[AT:[a-z0-9_]+]]: i64
// CHECK: arith.maximumf %[[X]], %[[MOST]]
// CHECK-DAG: %[[BEATS:.+]] = arith.cmpf ugt, %[[X]], %[[MOST]] : f32
// CHECK-DAG: %[[NUMBER:.+]] = arith.cmpf oeq, %[[MOST]], %[[MOST]] : f32
// CHECK: %[[NEW:.+]] = arith.andi %[[BEATS]], %[[NUMBER]] : i1
// CHECK: arith.select %[[NEW]], %{{.+}}, %[[AT]] : i64
func.func @position(%x: tensor<4xf32>, %start: tensor<f32>, %zero: tensor<i64>) -> tensor<i64> {
  %1:2 = linalg.generic {indexing_maps = [#id, #scalar, #scalar], iterator_types = ["reduction"]}
      ins(%x : tensor<4xf32>) outs(%start, %zero : tensor<f32>, tensor<i64>) {
  ^bb0(%in: f32, %most: f32, %at: i64):
    %i = linalg.index 0 : index
    %here = arith.index_cast %i : index to i64
    %max = arith.maximumf %in, %most : f32
    %more = arith.cmpf ogt, %in, %most : f32
    %r = arith.select %more, %here, %at : i64
    linalg.yield %max, %r : f32, i64
  } -> (tensor<f32>, tensor<i64>)
  return %1#1 : tensor<i64>
}

// -----

#id = affine_map<(d0) -> (d0)>

// A comparison that chooses other values is the user's own: NaN compares false.
// CHECK-LABEL: func.func @own
// CHECK: arith.cmpf ogt
// CHECK-NOT: maximumf
func.func @own(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = tensor.empty() : tensor<4xf32>
  %1 = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel"]}
      ins(%x, %y : tensor<4xf32>, tensor<4xf32>) outs(%0 : tensor<4xf32>) {
  ^bb0(%in: f32, %other: f32, %out: f32):
    %two = arith.addf %in, %in : f32
    %more = arith.cmpf ogt, %in, %other : f32
    %r = arith.select %more, %two, %other : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
