// Fewer features of an attention's values, which the output projection reads.
//
// Yang et al., CVPR 2023 (NViT). MACs: 1/b of the context, of the values' and of the output projection.
//
// $layer: name          a linear layer of the attention
// $b: int = 2       divisor of the features of each head's values
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "value", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
