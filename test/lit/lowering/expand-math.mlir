// RUN: loopmorph-opt %s -p 'morph-expand-math' | FileCheck %s

// CHECK-LABEL: func.func @vectors
// CHECK-NOT:     math.exp
// CHECK:         math.roundeven %{{.*}} : vector<16xf32>
// CHECK:         arith.cmpf ord
// CHECK-NEXT:    %[[N:.*]] = arith.select
// CHECK-NEXT:    arith.fptosi %[[N]] : vector<16xf32> to vector<16xi32>
// CHECK-COUNT-2: arith.bitcast %{{.*}} : vector<16xi32> to vector<16xf32>
// CHECK-NEXT:    %[[R:.*]] = arith.mulf
// CHECK-NEXT:    return %[[R]]
func.func @vectors(%x: vector<16xf32>) -> vector<16xf32> {
  %y = math.exp %x : vector<16xf32>
  return %y : vector<16xf32>
}

// One division each; GELU's by a constant becomes a product.
// CHECK-LABEL: func.func @scalars
// CHECK-NOT:     math.{{erf|tanh}}
// CHECK:         arith.mulf %{{.*}}, %{{.*}} fastmath<contract> : f32
// CHECK-COUNT-2: arith.divf
// CHECK-NOT:     arith.divf
// CHECK:         return
func.func @scalars(%x: f32) -> (f32, f32) {
  %c = arith.constant 1.41421354 : f32
  %d = arith.divf %x, %c : f32
  %y = math.erf %d : f32
  %z = math.tanh %x : f32
  return %y, %z : f32, f32
}

// Other element types, divisors that vary and divisors without a normal inverse stay.
// CHECK-LABEL: func.func @others
// CHECK:         math.exp %{{.*}} : f64
// CHECK-COUNT-3: arith.divf
func.func @others(%x: f64, %a: f32, %b: f32) -> (f64, f32, f32, f32) {
  %zero = arith.constant 0.0 : f32
  %small = arith.constant 1.0e-40 : f32
  %y = math.exp %x : f64
  %p = arith.divf %a, %b : f32
  %q = arith.divf %a, %zero : f32
  %r = arith.divf %a, %small : f32
  return %y, %p, %q, %r : f64, f32, f32, f32
}
