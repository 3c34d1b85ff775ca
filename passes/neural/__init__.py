"""Neural transformations: they change the network; shape rules, then Fisher Potential, judge them."""
