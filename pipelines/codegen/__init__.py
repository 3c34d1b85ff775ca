"""From affine nests to machine code, and calling it."""
