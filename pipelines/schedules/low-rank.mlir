// Low rank: the layer gives 1/b of its outputs, and a product makes all of them of these.
//
// Denton et al., NeurIPS 2014. MACs: 1/b of the layer's + Co*Co/b a point.
//
// $layer: name          the convolution or linear layer
// $b: int = 4       divisor of the rank
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.mix"(%module) {
      layer = "$layer", iter = "co", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.bottleneck"(%module_1) {
      layer = "$layer", iter = "co", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
