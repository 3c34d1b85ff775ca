// Block-diagonal weights: each group of outputs reads its own group of inputs.
//
// Dao et al., ICML 2022 (Monarch); a grouped convolution. MACs: 1/g of the layer's.
//
// $layer: name          the linear layer or convolution
// $g: int = 2       groups
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.group"(%module) {
      layer = "$layer", iters = ["co", "ci"], factor = $g : i64, morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
