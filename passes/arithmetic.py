"""Which operations do nothing but compute values from values: scalars or vectors, never memrefs."""

from __future__ import annotations

ARITHMETIC = ("arith.", "math.")  # what their names begin with
