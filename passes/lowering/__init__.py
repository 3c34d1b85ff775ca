"""Lowering: from linalg to affine nests, and from affine nests to LLVM."""
