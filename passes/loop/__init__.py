"""Loop transformations: they keep the computed values; dependence analysis judges them."""
