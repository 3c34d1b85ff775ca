// Without a residual block: the skip alone stays. Of a transformer's block, an attention or a feed-forward layer.
//
// Huang et al., ECCV 2016 (while training); Fan et al., ICLR 2020 (of trained transformers). MACs: none of the block's.
//
// $layer: name          a layer of the block's branch
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %module_1, %nest_1 = "morph.drop_block"(%module) {
      layer = "$layer", morph.kind = "neural"
    } : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
