// Seq3: the output's rows fall into bands, each with weights of its own.
//
// Turner et al., ASPLOS 2021, section 7.3, sequence 3; the bands are not padded where they meet. MACs: as the layer's;
// s times its weights.
//
// $layer: name      the convolution
// $s: int = 2       number of bands
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.group"(%module) {
      layer = "$layer", iters = ["oh"], factor = $s : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
