"""How the values of a parameter follow when a transformation changes its shape.

Each argument marked `morph.param` may carry `morph.inherit`: how an index into the parameter as it is now leads to the
index into the parameter as it was imported. So a `.mlir` file says by itself where every weight comes from. It is an
affine map or, where no single map can say it, an array of steps, the first of which takes the present index:

  an affine map    from an index to an index
  an array         `[array<i64: 0, 2, 4, 12>, array<i64>]`: for each axis the intervals begin .. end-1 of which it was
                   made, in order; an empty one where the axis was kept whole
  a dictionary     `{mean = [STEP, STEP]}` or `{sum = [STEP, STEP]}`: several elements become one; each STEP, an affine
                   map or an array, leads to one of them. An element that several of them lead to counts once.

What the transformations write:

  bottleneck, narrow   the slice that is kept: of a dimension the head or the indices that `keep` names, of a window
                       (`kh`) the central taps, of a reduction the head
  bottleneck with `inherit=mean`   the mean of the merged channels, of BatchNorm's vectors too; where they are summed
                       over (the weights of the readers), their sum. A network whose merged channels are equal computes
                       the same.
  group, depthwise     the blocks on the diagonal; a mean over blocks has no meaning, since each reads another input
  group of one iterator   every band the whole weight
  partition            each piece its own part
  mix                  the identity matrix
  permute              the same elements in another order
  coarse grid          nothing changes
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import evaluate, simplify, substitute
from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.errors import ArgumentError

_Axes = list[np.ndarray]  # an index into a tensor: one int64 array for each axis, which broadcast against each other
_MERGES = ("mean", "sum")


@dataclass(frozen=True)
class Term:
    """For every element of a parameter, one imported element that it is made of, and with which weight.

    Attributes:
        indices: one int64 array of the parameter's shape for each axis of the imported parameter.
        weight: float64, of the parameter's shape.
    """

    indices: tuple[np.ndarray, ...]
    weight: np.ndarray


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


def inherit_permuted(argument_marks: dict[str, ir.Attribute], orders: Sequence[np.ndarray]) -> ir.Attribute:
    """The `morph.inherit` of a parameter of which index k along axis d is what index `orders[d][k]` was."""
    lists = []
    for order in orders:
        runs = np.split(order, np.flatnonzero(np.diff(order) != 1) + 1)
        lists.append([bound for run in runs for bound in (int(run[0]), int(run[-1]) + 1)] if len(runs) > 1 else [])
    step = ir.ArrayAttr.get([ir.DenseI64ArrayAttr.get(bounds) for bounds in lists])
    return _inheritance([step, *_steps(argument_marks)])


def inherit_merged(
    argument_marks: dict[str, ir.Attribute], merged: Sequence[Sequence[KeepSet]], summed: frozenset[int]
) -> ir.Attribute:
    """The `morph.inherit` of a parameter of which each new index stands for several old ones.

    Args:
        argument_marks: the parameter's marks so far.
        merged: for each axis the sets of old indices, of equal size: element k of each of them becomes index k. An
            axis whose first set is whole stays as it is.
        summed: the axes along which the merged elements are added; along the others their mean is taken.
    """
    sizes = [axis[0].size for axis in merged]
    steps: list[ir.Attribute] = []
    for d, axis in enumerate(merged):
        if axis[0].is_whole:
            continue
        whole = [KeepSet.whole(size) for size in sizes]
        terms = [inherit_kept({}, [*whole[:d], share, *whole[d + 1 :]]) for share in axis]
        plain = [term if isinstance(term, ir.AffineMapAttr) else ir.ArrayAttr(term)[0] for term in terms]
        steps.append(ir.DictAttr.get({"sum" if d in summed else "mean": ir.ArrayAttr.get(plain)}))
        sizes[d] = axis[0].extent
    return _inheritance([*steps, *_steps(argument_marks)])


def inherited_terms(inherited: ir.AffineMap | ir.Attribute, shape: Sequence[int]) -> list[Term]:
    """The imported elements that every element of a parameter of `shape` is made of; their weighted sum is its value.

    Args:
        inherited: the parameter's `morph.inherit`, or an affine map.
        shape: the parameter's present shape.

    Raises:
        ArgumentError: no such attribute, or one that does not fit the shape.
    """
    rank = len(shape)
    axes: _Axes = [
        np.arange(extent, dtype=np.int64).reshape([-1 if d == k else 1 for d in range(rank)])
        for k, extent in enumerate(shape)
    ]
    steps = [ir.AffineMapAttr.get(inherited)] if isinstance(inherited, ir.AffineMap) else _as_steps(inherited)
    return [
        Term(tuple(np.array(np.broadcast_to(index, shape)) for index in reached), np.broadcast_to(weight, shape))
        for reached, weight in _followed(steps, axes, np.ones([1] * rank))
    ]


def _followed(steps: Sequence[ir.Attribute], axes: _Axes, weight: np.ndarray) -> list[tuple[_Axes, np.ndarray]]:
    if not steps:
        return [(axes, weight)]
    first, *rest = steps
    if not isinstance(first, ir.DictAttr):
        return _followed(rest, _old_index(first, axes), weight)
    kind, terms = _merge(first)
    reached = [_old_index(term, axes) for term in terms]
    shares = zip(reached, _weights(kind, reached), strict=True)
    return [found for old, share in shares for found in _followed(rest, old, weight * share)]


def _weights(kind: str, reached: Sequence[_Axes]) -> list[np.ndarray]:
    """The weight of each merged element; those that are one and the same share that of one."""
    once = [np.reciprocal(np.sum([_same(a, b) for b in reached], axis=0, dtype=np.float64)) for a in reached]
    return once if kind == "sum" else [np.divide(share, np.sum(once, axis=0)) for share in once]


def _same(a: _Axes, b: _Axes) -> np.ndarray:
    return functools.reduce(np.logical_and, [x == y for x, y in zip(a, b, strict=True)], np.array(True))


def _old_index(step: ir.Attribute, axes: _Axes) -> _Axes:
    """Where a step that is no merge leads from an index."""
    if isinstance(step, ir.AffineMapAttr):
        map_ = step.value
        if map_.n_dims != len(axes) or map_.n_symbols:
            raise _wrong(step, f"expected a map from {len(axes)} dimensions")
        return [np.asarray(evaluate(e, axes)) for e in map_.results]
    lists = list(step)
    if len(lists) != len(axes):
        raise _wrong(step, f"expected the intervals of {len(axes)} axes, got {len(lists)}")
    return [_old_indices(step, bounds, index) for bounds, index in zip(lists, axes, strict=True)]


def _old_indices(step: ir.Attribute, bounds: Sequence[int], index: np.ndarray) -> np.ndarray:
    flat = list(bounds)
    if not flat:
        return index
    if len(flat) % 2 or flat[0] < 0 or any(a >= b for a, b in zip(flat[::2], flat[1::2], strict=True)):
        raise _wrong(step, "expected pairs of a begin and a greater end")
    kept = np.concatenate([np.arange(a, b, dtype=np.int64) for a, b in zip(flat[::2], flat[1::2], strict=True)])
    if index.size and index.max() >= len(kept):
        raise _wrong(step, f"an axis that keeps {len(kept)} indices is read at index {index.max()}")
    return kept[index]


def _merge(step: ir.DictAttr) -> tuple[str, list[ir.Attribute]]:
    """What is done with the merged elements, and the steps to them."""
    entries = [(entry.name, entry.attr) for entry in step]
    if len(entries) != 1 or entries[0][0] not in _MERGES or not isinstance(entries[0][1], ir.ArrayAttr):
        raise _wrong(step, "expected {mean = [...]} or {sum = [...]}")
    ((kind, terms),) = entries
    if not len(terms) or not all(_is_plain(term) for term in terms):
        raise _wrong(step, f"expected affine maps and arrays of intervals in '{kind}', at least one")
    return kind, list(terms)


def _steps(argument_marks: dict[str, ir.Attribute]) -> list[ir.Attribute]:
    return _as_steps(argument_marks[marks.INHERIT]) if marks.INHERIT in argument_marks else []


def _as_steps(attribute: ir.Attribute) -> list[ir.Attribute]:
    """The steps of a `morph.inherit`: each an `ir.AffineMapAttr`, an `ir.ArrayAttr` or an `ir.DictAttr`."""
    steps = list(attribute) if isinstance(attribute, ir.ArrayAttr) else [attribute]
    for step in steps:
        if not _is_plain(step) and not isinstance(step, ir.DictAttr):
            raise _wrong(
                step, "expected an affine map, an array of intervals for each axis, {mean = ...} or {sum = ...}"
            )
    return steps


def _is_plain(step: ir.Attribute) -> bool:
    """Whether a step leads to one element: an affine map, or intervals of each axis."""
    lists = isinstance(step, ir.ArrayAttr) and all(isinstance(bounds, ir.DenseI64ArrayAttr) for bounds in step)
    return lists or isinstance(step, ir.AffineMapAttr)


def _inheritance(steps: Sequence[ir.Attribute]) -> ir.Attribute:
    single = len(steps) == 1 and isinstance(steps[0], ir.AffineMapAttr)
    return steps[0] if single else ir.ArrayAttr.get(list(steps))


def _wrong(step: ir.Attribute, expected: str) -> ArgumentError:
    return ArgumentError(marks.INHERIT, f"{expected}, in '{step}'")
