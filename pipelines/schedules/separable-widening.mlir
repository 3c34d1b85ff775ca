// MobileNet's separable convolution of a layer with f times as many outputs as inputs: depthwise, then pointwise.
//
// Howard et al., arXiv:1704.04861, section 3.1. MACs: K*K*Ci + Ci*Co a point, for a kernel of K x K.
//
// $layer: name      the convolution
// $f: int = 2       its outputs over its inputs
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.mix"(%module) {
      layer = "$layer", iter = "co", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.bottleneck"(%module_1) {
      layer = "$layer", iter = "co", factor = $f : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_3, %nest_3 = "morph.depthwise"(%module_2) {
      layer = "$layer", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
