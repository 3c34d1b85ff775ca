"""What `morph-winograd` is made of: matrices, recognition, transforms."""
