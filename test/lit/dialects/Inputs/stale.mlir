module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%module: !transform.any_op {transform.consumed}) {
    %loops = transform.structured.match ops{["affine.for"]} in %module : (!transform.any_op) -> !transform.any_op
    %m1, %nest1 = "morph.test_rename_layer"(%module) {layer = "a", to = "b"}
      : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.loop.unroll %loops {factor = 4} : !transform.any_op
    transform.yield
  }
}
