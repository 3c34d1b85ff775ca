// Seq1 with four slices: quarters of the output channels, each a convolution of all inputs with its own groups.
//
// Turner et al., ASPLOS 2021, section 7.3, sequence 1. MACs: (1/g0 + 1/g1 + 1/g2 + 1/g3) / 4 of the layer's.
//
// $layer: name      the convolution
// $g0: int = 2      groups of the first quarter
// $g1: int = 2      groups of the second quarter
// $g2: int = 4      groups of the third quarter
// $g3: int = 4      groups of the fourth quarter
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.partition"(%module) {
      layer = "$layer", iter = "co", parts = 4 : i64, morph.kind = "loop"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.group"(%module_1) {
      layer = "$layer#main.0", iters = ["co", "ci"], factor = $g0 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_3, %nest_3 = "morph.group"(%module_2) {
      layer = "$layer#main.1", iters = ["co", "ci"], factor = $g1 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_4, %nest_4 = "morph.group"(%module_3) {
      layer = "$layer#main.2", iters = ["co", "ci"], factor = $g2 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_5, %nest_5 = "morph.group"(%module_4) {
      layer = "$layer#main.3", iters = ["co", "ci"], factor = $g3 : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
