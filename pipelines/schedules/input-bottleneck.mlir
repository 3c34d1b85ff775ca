// Input bottleneck: the layer reads the first Ci/b of its input channels.
//
// Turner et al., ASPLOS 2021. MACs: 1/b of the layer's.
//
// $layer: name      the convolution or linear layer
// $b: int = 2       divisor of the input channels
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "ci", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
