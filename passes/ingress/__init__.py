"""From linalg on tensors to affine nests over memrefs."""
