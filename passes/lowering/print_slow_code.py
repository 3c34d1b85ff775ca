"""`morph-print-slow-code`: which nests of `@run` do not run as vectors over blocked layouts, and why, as text."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.contraction_nest import result_lane
from loopmorph.passes.analysis.dependence.known_operations import gathered
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.analysis.roles import CHANNEL_AXIS
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.base import Pass
from loopmorph.passes.errors import require_least
from loopmorph.passes.lowering.expand_math import EXPANDED
from loopmorph.passes.nest import Loop, Nest, function_roots, functions, view_nest

_PIXELS_RANK = 4  # activations of images before they are laid out in blocks of channels
_SHARE = 0.25  # of a nest's instructions: less does not slow it down much
_FEWEST = 1000  # scalar instructions, or elements of a pass: less takes no time that anybody sees
_INSTRUCTIONS = frozenset(
    {"absf", "ceil", "copysign", "floor", "fma", "roundeven", "rsqrt", "sqrt", "trunc"}
)  # of processors
_SINGLY = frozenset({"vector.extract", "vector.from_elements", "vector.insert"})


@dataclass(frozen=True)
class SlowNest:
    """A nest of `@run` that could run faster.

    Attributes:
        layer: qualified name of its layer, "" for the network's own forward.
        role: what it does for the layer (see `marks`).
        extents: iterator -> extent, outermost first; None where it is no constant.
        work: instructions on floating-point values, and stores, that it executes.
        reasons: why, one line each; at least one.
    """

    layer: str
    role: str
    extents: Mapping[str, int | None]
    work: int
    reasons: tuple[str, ...]


def slow_nests(module: ir.Operation, width: int) -> list[SlowNest]:
    """The nests of `@run` that run as scalar code, gather vectors element by element, call functions for single
    numbers, pass over memory for themselves or use unblocked layouts; those with most work first.

    Args:
        module: a module after `plan_functions`.
        width: lanes of a vector.
    """
    with module.context:
        roots = [root for each in functions(module) if each.name.value == marks.RUN for root in function_roots(each)]
        found = [slow for root in roots if (slow := _slow_nest(view_nest(root), width)) is not None]
    return sorted(found, key=lambda slow: -slow.work)


@dataclass(frozen=True)
class PrintSlowCode(Pass):
    """Writes the nests of `@run` that could run faster to the standard output, as comments; the program stays as it is.

    One paragraph a nest, those with most work first:

        // layer1.norm main: n=1 c=196 w=384, 225792 instructions
        //   no vectors: 'w' runs across the rows of what it reads
        //   a pass of its own over 882 KiB

    Requires nothing; a module without `@run` has no such nests.

    Options:
        width: lanes of a vector, at least 2.
    """

    name: ClassVar[str] = "morph-print-slow-code"
    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least("width", self.width, 2, "lanes in a vector")

    def run(self, module: ir.Operation) -> None:
        for slow in slow_nests(module, self.width):
            extents = " ".join(f"{name}={'?' if n is None else n}" for name, n in slow.extents.items())
            lines = [f"{slow.layer} {slow.role}: {extents}, {slow.work} instructions".strip()]
            sys.stdout.write("".join(f"// {line}\n" for line in (*lines, *(f"  {each}" for each in slow.reasons))))


def _slow_nest(nest: Nest, width: int) -> SlowNest | None:
    counts = _counts(nest)
    work = counts.scalar + counts.vector
    reasons = tuple(_reasons(nest, counts, width))
    if work < _FEWEST or not reasons:
        return None
    extents = {loop.iterator: loop.extent for loop in nest.loops}
    return SlowNest(nest.layer, nest.role, extents, work, reasons)


@dataclass
class _Counts:
    """How often a nest executes instructions on floating-point values, stores among them.

    Attributes:
        scalar, vector: on single numbers, on vectors.
        singly: those that put vectors together or take them apart element by element.
        called: names of operations that become calls, one for each number.
    """

    scalar: int = 0
    vector: int = 0
    singly: int = 0
    called: frozenset[str] = frozenset()


def _counts(nest: Nest) -> _Counts:
    counts = _Counts()
    for loop in nest.loops:
        times = math.prod(nest.loops[p].extent or 1 for p in (*nest.around(loop.position), loop.position))
        for op in (each.operation for each in loop.op.body.operations):
            if op.name in _SINGLY:
                counts.singly += times
            elif _computes(op):
                if any(isinstance(value.type, ir.VectorType) for value in (*op.results, *op.operands)):
                    counts.vector += times
                else:
                    counts.scalar += times
                if _is_called(op.name):
                    counts.called |= {op.name}
    return counts


def _computes(op: ir.Operation) -> bool:
    """Whether an operation stores, or computes floating-point values."""
    if op.name in ("affine.store", "affine.vector_store"):
        return True
    types = [v.type.element_type if isinstance(v.type, ir.VectorType) else v.type for v in op.results]
    return op.name.startswith(ARITHMETIC) and any(isinstance(t, ir.FloatType) for t in types)


def _is_called(name: str) -> bool:
    dialect, _, operation = name.partition(".")
    return dialect == "math" and operation not in _INSTRUCTIONS and name not in EXPANDED


def _reasons(nest: Nest, counts: _Counts, width: int) -> Iterator[str]:
    if counts.scalar > max(_SHARE * (counts.scalar + counts.vector), _FEWEST):
        part = "no vectors" if not counts.vector else "partly no vectors"
        yield f"{part}: {_why_scalar(nest, width)}"
    if counts.singly > max(_SHARE * counts.vector, _FEWEST):
        yield "strided vectors: they are put together or taken apart element by element"
    if counts.called:
        yield f"calls for each number: {', '.join(sorted(counts.called))}"
    if nest.role != marks.INIT and _is_pass(nest):
        yield f"a pass of its own over {_bytes(nest) >> 10} KiB"
    unblocked = sorted({str(a.memref.type) for a in nest.accesses if _is_unblocked(nest, a.memref, width)})
    if unblocked:
        yield f"channels not in blocks: {', '.join(unblocked)}"


def _why_scalar(nest: Nest, width: int) -> str:
    """What stands in the way of vectors, as far as the nest shows it."""
    if gathered(nest):
        return "it reads elements at indices that it computes"
    lane = result_lane(nest)
    if lane is None:
        return "no iterator runs along the rows of what it stores"
    across = [a for a in nest.accesses if lane.position in a.dims and not _runs_along(a.exprs, lane)]
    if across:
        return f"'{lane.iterator}' runs across the rows of {across[0].memref.type}"
    if (lane.extent or 0) % width:
        return f"'{lane.iterator}' has {lane.extent} values, which fill no whole vectors of {width}"
    return "no schedule fits the nest" if nest.is_perfect else "its loops do not hold one another alone"


def _runs_along(exprs: tuple[ir.AffineExpr, ...], lane: Loop) -> bool:
    return bool(exprs) and not any(lane.position in used_dims(e) for e in exprs[:-1])


def _is_pass(nest: Nest) -> bool:
    """Whether each element is computed by itself: no loop carries a value, nothing that is stored is read."""
    stored = [a.memref for a in nest.stores]
    carries = any(loop.op.inits for loop in nest.loops)
    return not carries and bool(nest.loads) and not any(a.memref in stored for a in nest.loads)


def _bytes(nest: Nest) -> int:
    """What the memrefs hold that it touches, where all of each is touched."""
    types = [ir.MemRefType(m.type) for m in dict.fromkeys(a.memref for a in nest.accesses)]
    return sum(math.prod(t.shape) * element_bytes(t.element_type) for t in types)


def _is_unblocked(nest: Nest, memref: ir.Value, width: int) -> bool:
    """Whether it holds maps of at least one vector of channels, channel by channel; no argument, whose layout is given.

    Maps of one pixel are vectors of channels as they are.
    """
    shape = ir.MemRefType(memref.type).shape
    inner = isinstance(memref.owner, ir.Operation | ir.OpView)
    return inner and len(shape) == _PIXELS_RANK and shape[CHANNEL_AXIS] >= width and math.prod(shape[2:]) > 1
