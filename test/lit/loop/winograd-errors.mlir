// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics -p 'morph-winograd{layer=conv1}'

// expected-error@unknown {{layer 'conv1': stride 3 along 'oh'; stride 1 or 2 is required}}
func.func @f(%x: memref<2x12x12xf32>, %w: memref<2x2x3x3xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 3 {
            affine.for %kw = 0 to 3 {
              %a = affine.load %x[%ci, %oh * 3 + %kh, %ow * 3 + %kw] : memref<2x12x12xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x3x3xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': its stride is 2, for which a tile of 2 is required, not 4}}
func.func @f(%x: memref<2x12x12xf32>, %w: memref<2x2x3x3xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 3 {
            affine.for %kw = 0 to 3 {
              %a = affine.load %x[%ci, %oh * 2 + %kh, %ow * 2 + %kw] : memref<2x12x12xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x3x3xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': stride 1 along 'ow'; stride 2 is required}}
func.func @f(%x: memref<2x12x12xf32>, %w: memref<2x2x3x3xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 3 {
            affine.for %kw = 0 to 3 {
              %a = affine.load %x[%ci, %oh * 2 + %kh, %ow + %kw] : memref<2x12x12xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x3x3xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': dilation 2 along 'kh'; dilation 1 is required}}
func.func @f(%x: memref<2x8x8xf32>, %w: memref<2x2x3x3xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 3 {
            affine.for %kw = 0 to 3 {
              %a = affine.load %x[%ci, %oh + %kh * 2, %ow + %kw * 2] : memref<2x8x8xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x3x3xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': the kernel is 5x5; 3x3 is required}}
func.func @f(%x: memref<2x8x8xf32>, %w: memref<2x2x5x5xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 5 {
            affine.for %kw = 0 to 5 {
              %a = affine.load %x[%ci, %oh + %kh, %ow + %kw] : memref<2x8x8xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x5x5xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': a window moves along 0 axes of its input; a kernel of two axes, 3x3, is required}}
func.func @f(%x: memref<2x4x4xf32>, %w: memref<2x2xf32>, %y: memref<2x4x4xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 4 {
        affine.for %ci = 0 to 2 {
          %a = affine.load %x[%ci, %oh, %ow] : memref<2x4x4xf32>
          %k = affine.load %w[%co, %ci] : memref<2x2xf32>
          %c = affine.load %y[%co, %oh, %ow] : memref<2x4x4xf32>
          %p = arith.mulf %a, %k : f32
          %s = arith.addf %c, %p : f32
          affine.store %s, %y[%co, %oh, %ow] : memref<2x4x4xf32>
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': 'g' indexes input, weight and result: a depthwise convolution; more than one input channel in a group is required}}
func.func @f(%x: memref<2x1x6x6xf32>, %w: memref<2x2x1x3x3xf32>, %y: memref<2x2x4x4xf32>) {
  affine.for %g = 0 to 2 {
    affine.for %co = 0 to 2 {
      affine.for %oh = 0 to 4 {
        affine.for %ow = 0 to 4 {
          affine.for %ci = 0 to 1 {
            affine.for %kh = 0 to 3 {
              affine.for %kw = 0 to 3 {
                %a = affine.load %x[%g, %ci, %oh + %kh, %ow + %kw] : memref<2x1x6x6xf32>
                %k = affine.load %w[%g, %co, %ci, %kh, %kw] : memref<2x2x1x3x3xf32>
                %c = affine.load %y[%g, %co, %oh, %ow] : memref<2x2x4x4xf32>
                %p = arith.mulf %a, %k : f32
                %s = arith.addf %c, %p : f32
                affine.store %s, %y[%g, %co, %oh, %ow] : memref<2x2x4x4xf32>
              } {morph.iter = "kw"}
            } {morph.iter = "kh"}
          } {morph.iter = "ci"}
        } {morph.iter = "ow"}
      } {morph.iter = "oh"}
    } {morph.iter = "co"}
  } {morph.iter = "g", morph.layer = "conv1", morph.role = "main"}
  return
}

// -----

// expected-error@unknown {{layer 'conv1': the extent 3 of 'ow' is less than the tile 4}}
func.func @f(%x: memref<2x6x5xf32>, %w: memref<2x2x3x3xf32>, %y: memref<2x4x3xf32>) {
  affine.for %co = 0 to 2 {
    affine.for %oh = 0 to 4 {
      affine.for %ow = 0 to 3 {
        affine.for %ci = 0 to 2 {
          affine.for %kh = 0 to 3 {
            affine.for %kw = 0 to 3 {
              %a = affine.load %x[%ci, %oh + %kh, %ow + %kw] : memref<2x6x5xf32>
              %k = affine.load %w[%co, %ci, %kh, %kw] : memref<2x2x3x3xf32>
              %c = affine.load %y[%co, %oh, %ow] : memref<2x4x3xf32>
              %p = arith.mulf %a, %k : f32
              %s = arith.addf %c, %p : f32
              affine.store %s, %y[%co, %oh, %ow] : memref<2x4x3xf32>
            } {morph.iter = "kw"}
          } {morph.iter = "kh"}
        } {morph.iter = "ci"}
      } {morph.iter = "ow"}
    } {morph.iter = "oh"}
  } {morph.iter = "co", morph.layer = "conv1", morph.role = "main"}
  return
}
