"""How the values of a parameter follow when a transformation changes its shape.

Each argument marked `morph.param` may carry `morph.inherit`: how an index into the parameter as it is now leads to the
index into the parameter as it was imported. So a `.mlir` file says by itself where every weight comes from. It is an
affine map or, where no single map can say it, an array of steps, the first of which takes the present index:

  an affine map    from an index to an index
  an array         `[array<i64: 0, 2, 4, 12>, array<i64>]`: for each axis the intervals begin .. end-1 of which it was
                   made, in order; an empty one where the axis was kept whole
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import evaluate, simplify, substitute
from loopmorph.passes.analysis.keep_set import KeepSet


def compose_inheritance(
    argument_marks: dict[str, ir.Attribute], exprs: Sequence[ir.AffineExpr], shape: Sequence[int]
) -> ir.Attribute:
    """The `morph.inherit` of a parameter that becomes one of `shape`, whose element i was element `exprs(i)` before."""
    first, *rest = _steps(argument_marks) or [None]
    results = list(exprs)
    if isinstance(first, ir.AffineMapAttr):
        replacement = dict(enumerate(exprs))
        results = [substitute(e, replacement, first.value.n_dims) for e in first.value.results]
    elif first is not None:
        rest = [first, *rest]
    map_ = ir.AffineMap.get(len(shape), 0, [simplify(e, shape) for e in results])
    return _inheritance([ir.AffineMapAttr.get(map_), *rest])


def inherit_kept(argument_marks: dict[str, ir.Attribute], kept: Sequence[KeepSet]) -> ir.Attribute:
    """The `morph.inherit` of a parameter of which each axis keeps a part."""
    exprs = [axis.expression(ir.AffineExpr.get_dim(d)) for d, axis in enumerate(kept)]
    found = [e for e in exprs if e is not None]
    if len(found) == len(kept):
        return compose_inheritance(argument_marks, found, [axis.size for axis in kept])
    lists = [[] if axis.is_whole else [bound for pair in axis.intervals for bound in pair] for axis in kept]
    step = ir.ArrayAttr.get([ir.DenseI64ArrayAttr.get(bounds) for bounds in lists])
    return _inheritance([step, *_steps(argument_marks)])


def source_indices(inherited: ir.AffineMap | ir.Attribute, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """For every element of a parameter of `shape`, where it lay when imported.

    Args:
        inherited: the parameter's `morph.inherit`, or an affine map.
        shape: the parameter's present shape.

    Returns:
        One int64 array of `shape` for each axis of the imported parameter.
    """
    rank = len(shape)
    axes: list[np.ndarray] = [
        np.arange(extent, dtype=np.int64).reshape([-1 if d == k else 1 for d in range(rank)])
        for k, extent in enumerate(shape)
    ]
    steps = [inherited] if isinstance(inherited, ir.AffineMap) else _as_steps(inherited)
    for step in steps:
        if isinstance(step, ir.ArrayAttr):
            axes = [_old_indices(ir.DenseI64ArrayAttr(b), index) for b, index in zip(step, axes, strict=True)]
        else:
            map_ = step if isinstance(step, ir.AffineMap) else step.value
            axes = [np.asarray(evaluate(e, axes)) for e in map_.results]
    return tuple(np.array(np.broadcast_to(index, shape)) for index in axes)


def _old_indices(bounds: Sequence[int], index: np.ndarray) -> np.ndarray:
    flat = list(bounds)
    if not flat:
        return index
    kept = [np.arange(begin, end, dtype=np.int64) for begin, end in zip(flat[::2], flat[1::2], strict=True)]
    return np.concatenate(kept)[index]


def _steps(argument_marks: dict[str, ir.Attribute]) -> list[ir.Attribute]:
    return _as_steps(argument_marks[marks.INHERIT]) if marks.INHERIT in argument_marks else []


def _as_steps(attribute: ir.Attribute) -> list[ir.Attribute]:
    """The steps of a `morph.inherit`, each an `ir.AffineMapAttr` or an `ir.ArrayAttr`."""
    if not isinstance(attribute, ir.ArrayAttr):
        return [ir.AffineMapAttr(attribute)]
    return [step if isinstance(step, ir.ArrayAttr) else ir.AffineMapAttr(step) for step in attribute]


def _inheritance(steps: Sequence[ir.Attribute]) -> ir.Attribute:
    single = len(steps) == 1 and isinstance(steps[0], ir.AffineMapAttr)
    return steps[0] if single else ir.ArrayAttr.get(list(steps))
