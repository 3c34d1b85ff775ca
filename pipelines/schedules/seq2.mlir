// Seq2: the first u outputs stay a full convolution; the others are a grouped one over the inputs from u on.
//
// Turner et al., ASPLOS 2021, section 7.3, sequence 2. MACs: (u * Ci + (Co - u) * (Ci - u) / g) / (Co * Ci) of the
// layer's, for Co outputs and Ci inputs.
//
// $layer: name      the convolution
// $u: int = 16      outputs that stay as they are, and inputs that the others do not read
// $g: int = 2       groups of the others
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.partition"(%module) {
      layer = "$layer", iter = "co", sizes = [$u : i64, 0 : i64], morph.kind = "loop"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_2, %nest_2 = "morph.narrow"(%module_1) {
      layer = "$layer#main.1", iter = "ci", begin = $u : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %module_3, %nest_3 = "morph.group"(%module_2) {
      layer = "$layer#main.1", iters = ["co", "ci"], factor = $g : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
