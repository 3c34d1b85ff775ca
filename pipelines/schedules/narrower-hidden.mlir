// A narrower feed-forward layer: fewer units between its two linear layers.
//
// Kwon et al., NeurIPS 2022. MACs: 1/b of both layers.
//
// $layer: name          one of the two linear layers
// $b: int = 2       divisor of the hidden units
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "hidden", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
