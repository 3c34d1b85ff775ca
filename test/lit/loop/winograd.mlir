// RUN: loopmorph-opt %s -p 'morph-winograd{layer=conv1 tile=2}' | FileCheck %s
// RUN: loopmorph-opt %s -p 'morph-winograd{layer=conv2 tile=2}' | FileCheck --check-prefix=GROUPS %s

// CHECK: morph.schedule = ["morph-winograd{layer=conv1 tile=2}"]
// CHECK: func.func @f(%[[X:[a-z0-9]*]]: memref<1x2x6x6xf32>, %[[W:[a-z0-9]*]]: memref<3x2x3x3xf32> {{.*}}, %[[B:[a-z0-9]*]]: memref<3xf32> {{.*}}, %[[Y:[a-z0-9]*]]: memref<1x3x4x4xf32>)
// CHECK-DAG: %[[HALF:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-DAG: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
// CHECK: %[[U:.*]] = memref.alloc() : memref<16x2x3xf32>
// CHECK-NEXT: %[[V:.*]] = memref.alloc() : memref<16x5x2xf32>
// CHECK-NEXT: %[[M:.*]] = memref.alloc() : memref<4x16x3xf32>

// Filter transform: the middle two of four rows are a sum and a difference of the same two parts.
// CHECK-NEXT: affine.for %[[CI:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[CO:.*]] = 0 to 3 {
// CHECK-NEXT: %[[G0:.*]] = affine.load %[[W]][%[[CO]], %[[CI]], 0, 0]
// CHECK-NEXT: %[[G1:.*]] = affine.load %[[W]][%[[CO]], %[[CI]], 1, 0]
// CHECK-NEXT: %[[G2:.*]] = affine.load %[[W]][%[[CO]], %[[CI]], 2, 0]
// CHECK-NEXT: %[[E0:.*]] = arith.mulf %[[G0]], %[[HALF]]
// CHECK-NEXT: %[[E2:.*]] = arith.mulf %[[G2]], %[[HALF]]
// CHECK-NEXT: %[[E:.*]] = arith.addf %[[E0]], %[[E2]]
// CHECK: affine.store %[[G0]], %[[U]][0, %[[CI]], %[[CO]]] : memref<16x2x3xf32>
// CHECK: affine.store %{{.*}}, %[[U]][15, %[[CI]], %[[CO]]] : memref<16x2x3xf32>
// CHECK-NEXT: } {morph.iter = "co"}
// CHECK-NEXT: } {morph.iter = "ci", morph.layer = "conv1", morph.node = "conv", morph.role = "filter-transform"}

// Input transform: B^T d B of the 4x4 inputs of a tile.
// CHECK-NEXT: affine.for %[[N:.*]] = 0 to 1 {
// CHECK-NEXT: affine.for %[[TY:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[TX:.*]] = 0 to 2 {
// CHECK-NEXT: affine.for %[[C:.*]] = 0 to 2 {
// CHECK-NEXT: affine.load %[[X]][%[[N]], %[[C]], %[[TY]] * 2, %[[TX]] * 2]
// CHECK: affine.load %[[X]][%[[N]], %[[C]], %[[TY]] * 2 + 3, %[[TX]] * 2 + 3]
// CHECK-NOT: arith.mulf
// CHECK: affine.store %{{.*}}, %[[V]][0, (%[[N]] * 2 + %[[TY]]) * 2 + %[[TX]], %[[C]]] : memref<16x5x2xf32>
// CHECK: morph.iter = "n", morph.layer = "conv1", morph.node = "conv", morph.role = "input-transform"}

// Products.
// CHECK: affine.store %[[ZERO]], %[[M]][%{{.*}}, %{{.*}}, %{{.*}}]
// CHECK: {morph.iter = "t", morph.layer = "conv1", morph.node = "conv", morph.role = "init"}
// CHECK-NEXT: affine.for %[[P:.*]] = 0 to 16 {
// CHECK-NEXT: affine.for %[[T:.*]] = 0 to 4 {
// CHECK-NEXT: affine.for %[[O:.*]] = 0 to 3 {
// CHECK-NEXT: affine.for %[[I:.*]] = 0 to 2 {
// CHECK-NEXT: %[[D:.*]] = affine.load %[[V]][%[[P]], %[[T]], %[[I]]]
// CHECK-NEXT: %[[K:.*]] = affine.load %[[U]][%[[P]], %[[I]], %[[O]]]
// CHECK-NEXT: %[[Q:.*]] = arith.mulf %[[D]], %[[K]]
// CHECK-NEXT: %[[S:.*]] = affine.load %[[M]][%[[T]], %[[P]], %[[O]]]
// CHECK-NEXT: %[[R:.*]] = arith.addf %[[S]], %[[Q]]
// CHECK-NEXT: affine.store %[[R]], %[[M]][%[[T]], %[[P]], %[[O]]]
// CHECK: {morph.iter = "p", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}

// Output transform: A^T m A and the bias, which no nest of its own writes any more.
// CHECK: affine.load %[[M]][(%[[N2:.*]] * 2 + %[[TY2:.*]]) * 2 + %[[TX2:.*]], 0, %[[O2:.*]]]
// CHECK: %[[BIAS:.*]] = affine.load %[[B]][%[[O2]]]
// CHECK-NEXT: %[[Y0:.*]] = arith.addf %[[BIAS]], %{{.*}}
// CHECK-NEXT: affine.store %[[Y0]], %[[Y]][%[[N2]], %[[O2]], %[[TY2]] * 2, %[[TX2]] * 2]
// CHECK-COUNT-3: affine.store %{{.*}}, %[[Y]]
// CHECK-NOT: affine.store
// CHECK: {morph.iter = "n", morph.layer = "conv1", morph.node = "conv", morph.role = "output-transform"}
func.func @f(%x: memref<1x2x6x6xf32>, %w: memref<3x2x3x3xf32> {morph.param = "w"}, %b: memref<3xf32> {morph.param = "b"}, %y: memref<1x3x4x4xf32>) {
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 3 {
      affine.for %oh = 0 to 4 {
        affine.for %ow = 0 to 4 {
          %v = affine.load %b[%co] : memref<3xf32>
          affine.store %v, %y[%n, %co, %oh, %ow] : memref<1x3x4x4xf32>
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv1", morph.node = "conv", morph.role = "init"}
  affine.for %n = 0 to 1 {
    affine.for %co = 0 to 3 {
      affine.for %oh = 0 to 4 {
        affine.for %ow = 0 to 4 {
          affine.for %ci = 0 to 2 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%n, %ci, %oh + %kh, %ow + %kw] : memref<1x2x6x6xf32>
                %k = affine.load %w[%co, %ci, %kh, %kw] : memref<3x2x3x3xf32>
                %c = affine.load %y[%n, %co, %oh, %ow] : memref<1x3x4x4xf32>
                %p = arith.mulf %a, %k : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%n, %co, %oh, %ow] : memref<1x3x4x4xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "n", morph.layer = "conv1", morph.node = "conv", morph.role = "main"}
  return
}

// Two groups: their digit leads the axes of the channels, and the products run over it.
// GROUPS-LABEL: func.func @grouped(
// GROUPS: %[[U:.*]] = memref.alloc() : memref<16x2x3x2xf32>
// GROUPS-NEXT: %[[V:.*]] = memref.alloc() : memref<16x2x5x3xf32>
// GROUPS-NEXT: %[[M:.*]] = memref.alloc() : memref<2x4x16x2xf32>
// GROUPS: morph.role = "input-transform"}
// GROUPS: {morph.iter = "g", morph.layer = "conv2", morph.role = "init"}
// GROUPS-NEXT: affine.for %[[P:.*]] = 0 to 16 {
// GROUPS-NEXT: affine.for %[[T:.*]] = 0 to 4 {
// GROUPS-NEXT: affine.for %[[G:.*]] = 0 to 2 {
// GROUPS-NEXT: affine.for %[[O:.*]] = 0 to 2 {
// GROUPS-NEXT: affine.for %[[I:.*]] = 0 to 3 {
// GROUPS-NEXT: affine.load %[[V]][%[[P]], %[[G]], %[[T]], %[[I]]]
// GROUPS-NEXT: affine.load %[[U]][%[[P]], %[[G]], %[[I]], %[[O]]]
// GROUPS-NEXT: arith.mulf
// GROUPS-NEXT: affine.load %[[M]][%[[G]], %[[T]], %[[P]], %[[O]]]
// GROUPS: morph.role = "output-transform"}
func.func @grouped(%x: memref<6x6x6xf32>, %w: memref<2x2x3x3x3xf32> {morph.param = "w"}, %y: memref<4x4x4xf32>) {
  affine.for %g = 0 to 2 {
    affine.for %co = 0 to 2 {
      affine.for %oh = 0 to 4 {
        affine.for %ow = 0 to 4 {
          affine.for %ci = 0 to 3 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%g * 3 + %ci, %oh + %kh, %ow + %kw] : memref<6x6x6xf32>
                %k = affine.load %w[%g, %co, %ci, %kh, %kw] : memref<2x2x3x3x3xf32>
                %c = affine.load %y[%g * 2 + %co, %oh, %ow] : memref<4x4x4xf32>
                %p = arith.mulf %a, %k : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%g * 2 + %co, %oh, %ow] : memref<4x4x4xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "g", morph.layer = "conv2", morph.role = "main"}
  return
}
