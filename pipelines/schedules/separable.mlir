// MobileNet's separable convolution: depthwise, then pointwise; of a layer with as many outputs as inputs.
//
// Howard et al., arXiv:1704.04861, section 3.1. MACs: K*K*Co + Co*Co a point, for a kernel of K x K.
//
// $layer: name      the convolution
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.mix"(%module) {
      layer = "$layer", iter = "co", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.depthwise"(%module_1) {
      layer = "$layer", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
