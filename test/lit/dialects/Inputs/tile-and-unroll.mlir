module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %m1, %nest1 = "morph.tile"(%module) {layer = "conv1", iters = ["co"], sizes = [4], morph.kind = "loop"}
      : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %m2, %nest2 = "morph.interchange"(%m1) {layer = "conv1", order = ["ci", "co.1"], morph.kind = "loop"}
      : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.loop.unroll %nest2 {factor = 2} : !transform.any_op
    transform.yield
  }
}
