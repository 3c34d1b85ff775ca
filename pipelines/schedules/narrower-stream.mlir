// A narrower residual stream: fewer features of what all blocks add to, in every layer that writes or reads it.
//
// Xia et al., ACL 2024. Of a convolutional network: the channels of all layers whose results are added up. MACs: 1/b of
// the layers that write or read the stream, 1/b^2 of those that do both.
//
// $layer: name          a layer that writes the stream
// $b: int = 2       divisor of its features
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "co", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
