"""Recognising a dense or grouped 3x3 convolution of stride 1 or 2 in a nest, by its accesses, not by names."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch_mlir import ir

from loopmorph.passes.affine_expr import LinearForm, evaluate, linear_form, substitute, used_dims
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.dependence.aliasing import may_alias
from loopmorph.passes.analysis.structure import require_no_results, require_perfect, require_scalar
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.winograd.matrices import ALGORITHMS, KERNEL

_BODY = ["affine.load"] * 3 + ["affine.store", "arith.addf", "arith.mulf"]


@dataclass(frozen=True)
class Operand:
    """A memref that the convolution accesses.

    Attributes:
        memref: the memref.
        exprs: the index of the accessed element, over the nest's loops.
    """

    memref: ir.Value
    exprs: tuple[ir.AffineExpr, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(ir.MemRefType(self.memref.type).shape)


@dataclass(frozen=True)
class Convolution:
    """`result[..] += data[..] * weight[..]` at every point of a rectangular nest.

    Loops are given by position; those of one iteration that index nothing are left out. Several loops may make up one
    iterator, so "digits", the most significant one first.

    Attributes:
        nest: the nest.
        data: what is read, padding included; along each of two axes the index is `stride * space + kernel + constant`.
        weight: the kernels.
        result: what is accumulated into; along each of two axes the index is `space + constant`.
        samples: the loops over independent images, which index data and result.
        groups: the digits of the group, which index all three; none in a dense convolution.
        outputs: the digits of the output channel in its group, which index weight and result.
        inputs: the digits of the input channel in its group, which index data and weight.
        space: the loops over rows and columns of the result.
        kernel: the loops over rows and columns of a kernel.
        stride: by how much a kernel moves from one row, and column, of the result to the next.
    """

    nest: Nest
    data: Operand
    weight: Operand
    result: Operand
    samples: tuple[int, ...]
    groups: tuple[int, ...]
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    space: tuple[int, int]
    kernel: tuple[int, int]
    stride: int

    def extent(self, loop: int) -> int:
        """The extent of the loop at a position."""
        return self.nest.extents[loop] or 0

    @property
    def data_channels(self) -> tuple[int, ...]:
        """The digits of a channel of the data, group and channel in it, the last one in memory last."""
        return _by_significance((*self.groups, *self.inputs), self.data)

    @property
    def result_channels(self) -> tuple[int, ...]:
        """The same of the result."""
        return _by_significance((*self.groups, *self.outputs), self.result)

    @property
    def result_lane(self) -> tuple[int, ...]:
        """The last digits of a channel of the result that make up its memref's last axis; else the last digit alone.

        They are several where groups have fewer channels than a vector: `g.1 * 4 + co`.
        """
        channels = self.result_channels
        form = linear_form(self.result.exprs[-1])
        digits = channels[-len(form.coefficients) :] if form is not None and form.coefficients else ()
        if form is None or set(digits) != form.coefficients.keys() or form.constant:
            return channels[-1:]
        whole = math.prod(self.extent(p) for p in digits) == self.result.shape[-1]
        dense = all(form.coefficients[p] == self._weight(digits, p) for p in digits)
        return digits if whole and dense else channels[-1:]

    def _weight(self, digits: tuple[int, ...], loop: int) -> int:
        """How far a digit steps in the number that they make up."""
        return math.prod(self.extent(p) for p in digits[digits.index(loop) + 1 :])

    def in_lane(self, frame: Mapping[int, ir.AffineExpr]) -> list[ir.AffineExpr]:
        """The number that the digits of `result_lane` make up; nothing where the result has no channels."""
        digits = self.result_lane
        terms = [frame[p] * self._weight(digits, p) for p in digits]
        return [functools.reduce(operator.add, terms)] if terms else []


def match_convolution(nest: Nest) -> Convolution:
    """The nest as a convolution.

    Raises:
        IllegalTransform: it is none of a 3x3 kernel, stride 1 or 2 and dilation 1, or a depthwise one; says what it is.
    """
    require_perfect(nest)
    require_scalar(nest)
    for loop in nest.loops:
        require_no_results(nest, loop)
    if not nest.is_rectangular:
        raise IllegalTransform(nest.label, "a loop does not run from 0 to a constant with step 1")
    first, second, result = _operands(nest)
    classes = _Classes(nest, first, second, result)
    data, weight = (first, second) if classes.axes(first) >= classes.axes(second) else (second, first)
    return _convolution(_Classes(nest, data, weight, result))


def _operands(nest: Nest) -> tuple[Operand, Operand, Operand]:
    """The two factors and the sum."""
    wrong = IllegalTransform(nest.label, "its body is not one scalar step 'y = y + x * w'")
    if sorted(op.name for op in nest.body) != _BODY:
        raise wrong
    by_value = {a.op.results[0]: a for a in nest.loads}
    (store,) = nest.stores
    addition = nest_operation(store.op.operands[0], nest)
    if addition is None or addition.name != "arith.addf":
        raise wrong
    sums = [by_value[v] for v in addition.operands if v in by_value]
    products = [
        op for v in addition.operands if (op := nest_operation(v, nest)) is not None and op.name == "arith.mulf"
    ]
    if len(sums) != 1 or len(products) != 1 or any(v not in by_value for v in products[0].operands):
        raise wrong
    factors = [by_value[v] for v in products[0].operands]
    if (sums[0].memref, sums[0].exprs) != (store.memref, store.exprs):
        raise wrong
    if any(may_alias(f.memref, store.memref) for f in factors):
        raise IllegalTransform(nest.label, "it reads the memref that it accumulates into as a factor, too")
    x, w, y = _without_trivial_loops(nest, (*factors, store))
    return x, w, y


def nest_operation(value: ir.Value, nest: Nest) -> ir.Operation | None:
    """The operation of the nest's body that defines the value, if one does."""
    op = definition(value)
    return op if op in nest.body else None


def _without_trivial_loops(nest: Nest, accesses: Sequence[Access]) -> list[Operand]:
    """The accesses without the loops of one iteration that have no part in a convolution (one group, for example)."""
    uses = Counter(p for a in accesses for p in {d for e in a.exprs for d in used_dims(e)})
    trivial = [loop.position for loop in nest.loops if loop.extent == 1 and uses[loop.position] != 2]
    zeros = {p: ir.AffineExpr.get_constant(0) for p in trivial}
    n = len(nest.loops)
    return [Operand(a.memref, tuple(substitute(e, zeros, n) for e in a.exprs)) for a in accesses]


@dataclass(frozen=True)
class _Classes:
    """Which loops index which of the three memrefs."""

    nest: Nest
    data: Operand
    weight: Operand
    result: Operand

    def of(self, in_data: bool, in_weight: bool, in_result: bool) -> tuple[int, ...]:
        """The loops that index exactly these."""
        wanted = (in_data, in_weight, in_result)
        used = [{d for e in o.exprs for d in used_dims(e)} for o in (self.data, self.weight, self.result)]
        return tuple(p for p in range(len(self.nest.loops)) if tuple(p in u for u in used) == wanted)

    def axes(self, operand: Operand) -> int:
        """The number of axes at which a loop of the result's meets one that is summed over."""
        result = {d for e in self.result.exprs for d in used_dims(e)}
        return sum(bool(used_dims(e) & result) and bool(used_dims(e) - result) for e in operand.exprs)


def _convolution(classes: _Classes) -> Convolution:
    nest, data, weight, result = classes.nest, classes.data, classes.weight, classes.result
    groups = classes.of(True, True, True)
    known = {p for c in ((1, 1, 1), (1, 0, 1), (1, 1, 0), (0, 1, 1)) for p in classes.of(*map(bool, c))}
    for loop in nest.loops:
        if loop.position not in known and loop.extent != 1:
            raise IllegalTransform(nest.label, f"'{loop.iterator}' does not index two of input, weight and result")
    pairs, stride = _windows(nest, data, set(classes.of(True, False, True)))
    space = (pairs[0][0], pairs[1][0])
    kernel = (pairs[0][1], pairs[1][1])
    _require_separate(nest, data, result, space, kernel)
    extents = [nest.extents[p] for p in kernel]
    if extents != [KERNEL, KERNEL]:
        raise IllegalTransform(nest.label, f"the kernel is {extents[0]}x{extents[1]}; {KERNEL}x{KERNEL} is required")
    samples = [p for p in classes.of(True, False, True) if p not in space]
    inputs = [p for p in classes.of(True, True, False) if p not in kernel]
    outputs = classes.of(False, True, True)
    if groups and all(nest.extents[p] == 1 for p in inputs):
        reason = f"'{nest.iterators[groups[0]]}' indexes input, weight and result: a depthwise convolution"
        raise IllegalTransform(nest.label, f"{reason}; more than one input channel in a group is required")
    _require_injective(nest, result, [*samples, *groups, *outputs], space)
    return Convolution(
        *(nest, data, weight, result),
        samples=_by_significance(samples, data),
        groups=_by_significance(groups, result),
        outputs=_by_significance(outputs, result),
        inputs=_by_significance(inputs, data),
        space=space,
        kernel=kernel,
        stride=stride,
    )


def _windows(nest: Nest, data: Operand, spatial: set[int]) -> tuple[list[tuple[int, int]], int]:
    """For each axis along which a window moves over the input: the loop over its places and that within it; and by how
    much it moves.
    """
    pairs: list[tuple[int, int]] = []
    stride = 0
    for expr in data.exprs:
        dims = used_dims(expr)
        if not dims & spatial or not dims - spatial:
            continue
        form = linear_form(expr)
        if form is None or len(dims) != 2:
            names = ", ".join(nest.iterators[d] for d in sorted(dims))
            reason = f"one index of the input is made of {names}; one iterator of the result and one of the kernel"
            raise IllegalTransform(nest.label, f"{reason} are required (split loops only afterwards)")
        (place,) = dims & spatial
        (within,) = dims - spatial
        accepted = (place, "stride", [stride] if pairs else list(ALGORITHMS)), (within, "dilation", [1])
        for p, what, steps in accepted:
            if form.coefficients[p] not in steps:
                wanted = " or ".join(map(str, steps))
                reason = f"{what} {form.coefficients[p]} along '{nest.iterators[p]}'; {what} {wanted} is required"
                raise IllegalTransform(nest.label, reason)
        stride = form.coefficients[place]
        pairs.append((place, within))
    if len(pairs) != 2:
        reason = f"a window moves along {len(pairs)} axes of its input; a kernel of two axes, 3x3, is required"
        raise IllegalTransform(nest.label, reason)
    return pairs, stride


def _require_separate(
    nest: Nest, data: Operand, result: Operand, space: tuple[int, int], kernel: tuple[int, int]
) -> None:
    """Each of the four loops of the window indexes one axis of data or result, and that with no other loop of it."""
    for p in {*space, *kernel}:
        of_data = [e for e in data.exprs if p in used_dims(e)]
        of_result = [e for e in result.exprs if p in used_dims(e)]
        moves = all(linear_form(e) == LinearForm({p: 1}, _constant(e)) for e in of_result)
        if len(of_data) != 1 or len(of_result) != (p in space) or not moves or len({*space, *kernel}) != 4:
            reason = f"'{nest.iterators[p]}' indexes input and result otherwise than one axis of each, in steps of 1"
            raise IllegalTransform(nest.label, reason)


def _constant(expr: ir.AffineExpr) -> int:
    form = linear_form(expr)
    return form.constant if form is not None else 0


def _require_injective(nest: Nest, result: Operand, loops: Sequence[int], space: tuple[int, int]) -> None:
    """No two points of the loops accumulate into the same element."""
    exprs = [e for e in result.exprs if not used_dims(e) & set(space)]
    n_points = math.prod(nest.extents[p] or 0 for p in loops)
    elements = set(zip(*(index_values(nest, e, loops).tolist() for e in exprs), strict=True)) if exprs else {()}
    if len(elements) != n_points:
        raise IllegalTransform(nest.label, "several points of its output iterators share one element of the result")


def index_values(nest: Nest, expr: ir.AffineExpr, loops: Sequence[int]) -> np.ndarray:
    """The values, int64, of an expression over some of a rectangular nest's loops at all their points, in order."""
    extents = [nest.extents[p] or 0 for p in loops]
    values = [np.zeros(1, dtype=np.int64)] * len(nest.loops)
    for k, p in enumerate(loops):
        values[p] = np.arange(extents[k]).reshape([-1 if j == k else 1 for j in range(len(loops))])
    return np.broadcast_to(evaluate(expr, values), extents).reshape(-1)


def _by_significance(loops: Sequence[int], operand: Operand) -> tuple[int, ...]:
    """The loops in the order of how far apart in memory they step, the widest first."""
    strides = np.cumprod([1, *operand.shape[:0:-1]])[::-1]
    terms = [(linear_form(e), int(stride)) for e, stride in zip(operand.exprs, strides, strict=True)]
    steps = {p: sum(f.coefficients.get(p, 0) * stride for f, stride in terms if f is not None) for p in loops}
    return tuple(sorted(loops, key=lambda p: -steps[p]))


def at(operand: Operand, index: dict[int, ir.AffineExpr]) -> tuple[ir.AffineExpr, ...]:
    """The index of the accessed element with every loop replaced by an expression."""
    n = 1 + max(index)
    return tuple(substitute(e, index, n) for e in operand.exprs)
