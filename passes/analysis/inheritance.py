"""How the values of a parameter follow when a transformation changes its shape.

Each argument marked `morph.param` may carry `morph.inherit`, an affine map from an index into the parameter as it is
now to an index into the parameter as it was imported. So a `.mlir` file says by itself where every weight comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import evaluate, simplify, substitute


def compose_inheritance(
    argument_marks: dict[str, ir.Attribute], exprs: Sequence[ir.AffineExpr], shape: Sequence[int]
) -> ir.AffineMapAttr:
    """The `morph.inherit` of a parameter that becomes one of `shape`, whose element i was element `exprs(i)` before."""
    rank = len(shape)
    if marks.INHERIT not in argument_marks:
        return ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, [simplify(e, shape) for e in exprs]))
    before = ir.AffineMapAttr(argument_marks[marks.INHERIT]).value
    replacement = dict(enumerate(exprs))
    results = [simplify(substitute(e, replacement, before.n_dims), shape) for e in before.results]
    return ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, results))


def source_indices(map_: ir.AffineMap, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """For every element of a parameter of `shape`, where it lay when imported: one int64 array of `shape` per axis."""
    rank = len(shape)
    axes = [
        np.arange(extent, dtype=np.int64).reshape([-1 if d == k else 1 for d in range(rank)])
        for k, extent in enumerate(shape)
    ]
    return tuple(np.array(np.broadcast_to(evaluate(e, axes), shape)) for e in map_.results)
