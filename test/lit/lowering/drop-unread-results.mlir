// RUN: loopmorph-opt %s -p 'morph-drop-unread-results' | FileCheck %s

// The place of the maximum goes with its start value; the maximum stays.
// CHECK-LABEL: func.func @main
// CHECK-NOT:     i64
// CHECK:         affine.store %{{.*}}, %[[MOST:.*]][0] : memref<1xf32>
// CHECK:         affine.for %[[I:.*]] = 0 to 7 {
// CHECK-NEXT:      affine.load %[[MOST]][0]
// CHECK-NEXT:      affine.load %{{.*}}[%[[I]]] : memref<7xf32>
// CHECK-NEXT:      arith.maximumf
// CHECK-NEXT:      affine.store %{{.*}}, %[[MOST]][0]
// CHECK-NEXT:    }
// CHECK:         affine.store %{{.*}}, %{{.*}}[0] : memref<1xf32>
func.func @main(%x: memref<7xf32>, %y: memref<1xf32>) {
  %low = arith.constant -1.0 : f32
  %most = memref.alloc() : memref<1xf32>
  %place = memref.alloc() : memref<1xi64>
  affine.for %k = 0 to 1 {
    affine.store %low, %most[0] : memref<1xf32>
  }
  affine.for %k = 0 to 1 {
    %i = arith.constant 0 : i64
    affine.store %i, %place[0] : memref<1xi64>
  }
  affine.for %i = 0 to 7 {
    %m = affine.load %most[0] : memref<1xf32>
    %p = affine.load %place[0] : memref<1xi64>
    %v = affine.load %x[%i] : memref<7xf32>
    %n = arith.maximumf %v, %m : f32
    %b = arith.cmpf ugt, %v, %m : f32
    %i64 = arith.index_cast %i : index to i64
    %q = arith.select %b, %i64, %p : i64
    affine.store %n, %most[0] : memref<1xf32>
    affine.store %q, %place[0] : memref<1xi64>
  }
  affine.for %k = 0 to 1 {
    %m = affine.load %most[0] : memref<1xf32>
    affine.store %m, %y[0] : memref<1xf32>
  }
  return
}

// The only result of a nest stays, though nobody reads it: it may be what is timed.
// CHECK-LABEL: func.func @alone
// CHECK-COUNT-2: affine.store %{{.*}}, %{{.*}}[0] : memref<1xf32>
func.func @alone(%x: memref<7xf32>) {
  %zero = arith.constant 0.0 : f32
  %sum = memref.alloc() : memref<1xf32>
  affine.for %k = 0 to 1 {
    affine.store %zero, %sum[0] : memref<1xf32>
  }
  affine.for %i = 0 to 7 {
    %m = affine.load %sum[0] : memref<1xf32>
    %v = affine.load %x[%i] : memref<7xf32>
    %n = arith.addf %v, %m : f32
    affine.store %n, %sum[0] : memref<1xf32>
  }
  return
}

// Start values in several places of one nest: all of it goes.
// CHECK-LABEL: func.func @parts
// CHECK-NOT:     i64
// CHECK-NOT:     affine.for %{{.*}} = 0 to 5
// CHECK:         affine.for %{{.*}} = 0 to 7
func.func @parts(%x: memref<7xf32>, %y: memref<1xf32>) {
  %place = memref.alloc() : memref<6xi64>
  affine.for %n = 0 to 1 {
    %i = arith.constant 0 : i64
    affine.store %i, %place[5] : memref<6xi64>
    affine.for %k = 0 to 5 {
      affine.store %i, %place[%k] : memref<6xi64>
    }
  }
  affine.for %i = 0 to 7 {
    %m = affine.load %y[0] : memref<1xf32>
    %p = affine.load %place[5] : memref<6xi64>
    %v = affine.load %x[%i] : memref<7xf32>
    %n = arith.maximumf %v, %m : f32
    affine.store %n, %y[0] : memref<1xf32>
    affine.store %p, %place[5] : memref<6xi64>
  }
  return
}
