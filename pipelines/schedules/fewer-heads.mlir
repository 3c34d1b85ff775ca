// Fewer heads of an attention: of queries, keys and values, scores, context and output projection.
//
// Michel et al., NeurIPS 2019. MACs: 1/b of the attention's.
//
// $layer: name          a linear layer of the attention
// $b: int = 2       divisor of the heads
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "head", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
