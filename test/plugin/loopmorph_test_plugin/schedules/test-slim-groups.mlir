// Fewer output channels, and these in groups.
//
// MACs: 1/(b*g) of the layer's.
//
// $layer: name      the convolution
// $b: int = 2       divisor of the output channels
// $g: int = 2       groups
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "co", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.group"(%module_1) {
      layer = "$layer", iters = ["co", "ci"], factor = $g : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
