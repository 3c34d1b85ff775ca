"""From what a user names or has to a network in MLIR."""
