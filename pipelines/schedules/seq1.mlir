// Seq1 with two slices: halves of the output channels, each a convolution of all inputs with its own groups.
//
// Turner et al., ASPLOS 2021, section 7.3, sequence 1. MACs: (1/g0 + 1/g1) / 2 of the layer's.
//
// $layer: name      the convolution
// $g0: int = 2      groups of the first half
// $g1: int = 4      groups of the second half
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.partition"(%module) {
      layer = "$layer", iter = "co", parts = 2 : i64, morph.kind = "loop"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.group"(%module_1) {
      layer = "$layer#main.0", iters = ["co", "ci"], factor = $g0 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_3, %nest_3 = "morph.group"(%module_2) {
      layer = "$layer#main.1", iters = ["co", "ci"], factor = $g1 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
