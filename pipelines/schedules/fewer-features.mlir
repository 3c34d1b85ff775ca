// Fewer features of an attention's queries and keys; values stay as they are.
//
// Yang et al., CVPR 2023 (NViT). MACs: 1/b of the scores and of the projections of queries and keys.
//
// $layer: name          a linear layer of the attention
// $b: int = 2       divisor of the features of each head
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "feature", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
