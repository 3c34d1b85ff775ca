// RUN: loopmorph-opt %s --split-input-file --verify-diagnostics
// The verifier names the operation and the attribute.

// Attributes under morph. are annotations.
module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = "b", morph.kind = "loop", morph.note = 1} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'to': missing; expected a string}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a"} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'factor': unknown attribute (accepted: layer, to, only, mark, tags)}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = "b", factor = 2 : i64} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'to': expected a string, got 4 : i64}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = 4 : i64} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'only': expected an array of integers, as in [4, 4]}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = "b", only = ["x"]} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'mark': expected true or false, got 1 : i64}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = "b", mark = 1 : i64} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{attribute 'morph.kind': expected}}
    %c, %n = "morph.test_rename_layer"(%m) {layer = "a", to = "b", morph.kind = "neural"} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}

// -----

module attributes {transform.with_named_sequence} {
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
    // expected-error@+1 {{expected children ops to implement TransformOpInterface}}
    %c, %n = "morph.no_such_step"(%m) {layer = "a"} : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
