// BlockSwap's BG(b, g): as bottleneck-block, the layer between grouped.
//
// Turner et al., ICLR 2020, section 4. MACs: Ci*Ci/b + K*K*(Ci/b)*(Co/b)/g + Co*Co/b a point, for a kernel of K x K.
//
// $layer: name      the convolution
// $b: int = 2       divisor of the channels between
// $g: int = 2       groups of the layer between
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.mix"(%module) {
      layer = "$layer", iter = "ci", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.mix"(%module_1) {
      layer = "$layer", iter = "co", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_3, %nest_3 = "morph.bottleneck"(%module_2) {
      layer = "$layer#mix-in", iter = "co", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_4, %nest_4 = "morph.bottleneck"(%module_3) {
      layer = "$layer", iter = "co", factor = $b : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_5, %nest_5 = "morph.group"(%module_4) {
      layer = "$layer", iters = ["co", "ci"], factor = $g : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
