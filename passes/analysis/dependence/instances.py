"""A nest in isl's terms: the instances of its accesses, the elements that they touch, and the order in which they run.

A statement is one access (`affine.load`, `affine.store` or one of their vector forms); an instance of it is the vector
of the values of the iterators around it, outermost first, anonymous in isl: `[i0, i2, i3]`, where `i2` is the nest's
loop 2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import islpy as isl
from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.affine_expr import isl_text
from loopmorph.passes.nest import Access, Guard, LoadOp, Loop, Nest, StoreOp


def domain(nest: Nest, access: Access) -> isl.Set:
    """The instances of an access: the values that the iterators around it take.

    Raises:
        IllegalTransform: a bound is no affine function of the iterators.
    """
    return iteration_domain(nest, access.loops, access.guards)


def iteration_domain(nest: Nest, loops: Sequence[int], guards: Sequence[Guard] = ()) -> isl.Set:
    """The values that the iterators of `loops`, positions outermost first, take within branches of `affine.if`.

    Raises:
        IllegalTransform: a bound is no affine function of the iterators.
    """
    names = [f"i{p}" for p in range(len(nest.loops))]
    conditions = [c for p in loops for c in _loop_constraints(nest, nest.loops[p], names)]
    conditions += [_guard_condition(guard, names) for guard in guards]
    return isl.Set(f"{{ [{_dims(loops)}] : {' and '.join(conditions) or 'true'} }}")


def access_relation(access: Access) -> isl.Map:
    """From the values of the iterators around an access to the element (several: of a vector) that it touches."""
    names = [f"i{p}" for p in range(max(access.loops, default=-1) + 1)]
    element = [isl_text(e, names) for e in access.exprs]
    if access.lanes == 1:
        return isl.Map(f"{{ [{_dims(access.loops)}] -> [{', '.join(element)}] }}")
    element[-1] += " + lane"
    lanes = f"exists lane : 0 <= lane < {access.lanes}"
    axes = [f"a{k}" for k in range(len(element))]
    equal = " and ".join(f"{a} = {e}" for a, e in zip(axes, element, strict=True))
    return isl.Map(f"{{ [{_dims(access.loops)}] -> [{', '.join(axes)}] : {lanes} and {equal} }}")


def schedule(nest: Nest, accesses: Iterable[Access] | None = None) -> dict[int, isl.Map]:
    """The present execution order: iterators and places in the text, alternating, as points in time.

    Args:
        nest: the nest.
        accesses: those that count; all by default.

    Returns:
        One isl map for each access, by its number.
    """
    return _schedule_maps(nest.accesses if accesses is None else accesses, _times(nest))


def band_schedule(nest: Nest, band: Sequence[int], times: Sequence[str]) -> dict[int, isl.Map]:
    """The execution order after the loops of a perfect band were replaced by others.

    Args:
        nest: the nest.
        band: positions of the loops, outermost first; each but the last holds nothing but the next.
        times: what the new loops count, outermost first: isl expressions over the iterators `i<position>`.

    Returns:
        One isl map for each access, as `schedule` gives.
    """
    first, last = f"i{band[0]}", f"i{band[-1]}"

    def replace(old: tuple[str, ...]) -> tuple[str, ...]:
        if first not in old:
            return old
        return (*old[: old.index(first)], *times, *old[old.index(last) + 1 :])

    return _schedule_maps(nest.accesses, [replace(t) for t in _times(nest)])


def _times(nest: Nest) -> list[tuple[str, ...]]:
    """For each access its point in time: (iterator, place in its loop's text, next iterator, ...).

    What stands in a branch has, after the place of the `affine.if`, the number of the branch and its place there.
    """
    times: list[tuple[str, ...]] = []
    n_loops = 0

    def visit(block: ir.Block, prefix: tuple[str, ...]) -> None:
        nonlocal n_loops
        for place, inner in enumerate(block.operations):
            at = (*prefix, str(place))
            if isinstance(inner, affine.AffineForOp):
                n_loops += 1
                visit(inner.body, (*at, f"i{n_loops - 1}"))
            elif isinstance(inner, LoadOp | StoreOp):
                times.append(at)
            elif nest.guards and isinstance(inner, affine.AffineIfOp):
                for number, region in enumerate(inner.operation.regions):
                    for each in region.blocks:
                        visit(each, (*at, str(number)))

    n_loops = 1
    visit(nest.root.body, ("i0",))
    return times


def _schedule_maps(accesses: Iterable[Access], times: Sequence[tuple[str, ...]]) -> dict[int, isl.Map]:
    length = max((len(t) for t in times), default=0)
    padded = [(*t, *["0"] * (length - len(t))) for t in times]
    return {a.order: isl.Map(f"{{ [{_dims(a.loops)}] -> [{', '.join(padded[a.order])}] }}") for a in accesses}


def _loop_constraints(nest: Nest, loop: Loop, names: Sequence[str]) -> Iterator[str]:
    bounds, name = nest.bounds(loop), names[loop.position]
    lower = [isl_text(e, names) for e in bounds.lower]
    yield from (f"{name} >= {e}" for e in lower)
    yield from (f"{name} < {isl_text(e, names)}" for e in bounds.upper)
    if bounds.step > 1:
        start = functools.reduce(lambda a, b: f"max({a}, {b})", lower)
        yield f"({name} - ({start})) mod {bounds.step} = 0"


def _guard_condition(guard: Guard, names: Sequence[str]) -> str:
    texts = [f"{isl_text(expr, names)} {'=' if is_equality else '>='} 0" for expr, is_equality in guard.constraints]
    return f"{'not ' if guard.is_else else ''}({' and '.join(texts)})"


def _dims(loops: Sequence[int]) -> str:
    return ", ".join(f"i{p}" for p in loops)
