// Spatial bottleneck: the layer is computed on a grid that is coarser by b in both directions, and repeated.
//
// Turner et al., ASPLOS 2021. MACs: 1/b^2 of the layer's.
//
// $layer: name      the convolution
// $b: int = 2       rows and columns that share one result
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.bottleneck"(%module) {
      layer = "$layer", iter = "oh", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.bottleneck"(%module_1) {
      layer = "$layer", iter = "ow", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
