// morph and upstream operations in one schedule: rename both layers, then unroll the nest that the last step built.
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %m1, %nest1 = "morph.test_rename_layer"(%module) {layer = "a", to = "c", tags = ["seen"], morph.kind = "loop"}
      : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %m2, %nest2 = "morph.test_rename_layer"(%m1) {layer = "b", to = "d", only = [0], morph.kind = "loop"}
      : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.loop.unroll %nest2 {factor = 4} : !transform.any_op
    %functions = transform.structured.match ops{["func.func"]} in %m2 : (!transform.any_op) -> !transform.any_op
    transform.apply_patterns to %functions { transform.apply_patterns.canonicalization } : !transform.any_op
    transform.yield
  }
}
