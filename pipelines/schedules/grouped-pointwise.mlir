// BlockSwap's G(g): a grouped convolution, then a pointwise one that mixes the groups.
//
// Turner et al., ICLR 2020, section 4. MACs: K*K*Ci*Co/g + Co*Co a point, for a kernel of K x K.
//
// $layer: name      the convolution
// $g: int = 2       groups
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.mix"(%module) {
      layer = "$layer", iter = "co", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.group"(%module_1) {
      layer = "$layer", iters = ["co", "ci"], factor = $g : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
