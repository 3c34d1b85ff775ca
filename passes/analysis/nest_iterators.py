"""Names for the loops of a nest that have none, read off its accesses and bounds."""

from __future__ import annotations

from collections.abc import Sequence

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.iterator_names import Index, distinct, names_by_rank, names_by_use
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Access, Nest


def nest_iterators(nest: Nest) -> list[str]:
    """The names of a nest's loops, in its order; those that have one keep it.

    The loops of a convolution, pool or product are named as `names_by_use` has it, others by the axes that they index
    (of a matrix n, c); a loop that only bounds another is the outer part of it, `ow.0` of `ow.1`, as after
    `morph-split`; one that indexes nothing has a number.
    """
    indexing = sorted({p for access in nest.accesses for expr in access.exprs for p in used_dims(expr)})
    found = _by_use(nest, indexing) or _by_axes(nest)
    parts = _parts(nest, set(indexing))
    names = [found.get(p, f"i{p}") for p in range(len(nest.loops))]
    given = {loop.position: loop.iterator for loop in nest.loops if marks.ITER in loop.op.attributes}
    free = [p for p in range(len(nest.loops)) if p not in given and p not in {q for chain in parts for q in chain[:-1]}]
    for p, name in zip(free, distinct((names[p] for p in free), given.values()), strict=True):
        names[p] = name
    for chain in parts:
        if not any(p in given for p in chain):
            base = names[chain[-1]]
            for level, p in enumerate(chain):
                names[p] = f"{base}.{level}"
    return [given.get(p, name) for p, name in enumerate(names)]


def _by_use(nest: Nest, indexing: Sequence[int]) -> dict[int, str] | None:
    """The names of a contraction's or pool's loops."""
    if not nest.stores:
        return None
    store = max(nest.stores, key=lambda access: len(access.loops))
    loads = [load for load in nest.loads if load.memref != store.memref and len(load.loops) >= len(store.loops)]
    loads.sort(key=lambda load: marks.parameter_name(load.memref) is not None)  # weights come after the data
    rank = {p: k for k, p in enumerate(indexing)}
    operands = list(dict.fromkeys(tuple(_index(load, rank)) for load in loads))
    names = names_by_use(len(rank), _index(store, rank), operands)
    return None if names is None else {p: names[k] for p, k in rank.items()}


def _index(access: Access, rank: dict[int, int]) -> Index:
    return [frozenset(rank[p] for p in used_dims(expr)) for expr in access.exprs]


def _by_axes(nest: Nest) -> dict[int, str]:
    """The names of loops that index axes of a memref alone: of the access that has the most of these first."""
    alone = [
        {next(iter(dims)): names[axis] for axis, dims in enumerate(map(used_dims, access.exprs)) if len(dims) == 1}
        for access in nest.accesses
        for names in (names_by_rank(len(access.exprs)),)
    ]
    found: dict[int, str] = {}
    for names in sorted(alone, key=len, reverse=True):
        found = {**names, **found}
    return found


def _parts(nest: Nest, indexing: set[int]) -> list[list[int]]:
    """Loops over parts of one range, outermost first: each but the last indexes nothing and bounds the next."""
    outer: dict[int, int] = {}
    for loop in nest.loops:
        try:
            bounds = nest.bounds(loop)
        except IllegalTransform:
            continue
        around = {p for expr in bounds.lower for p in used_dims(expr)} - indexing
        if len(around) == 1:
            outer[loop.position] = around.pop()
    chains = []
    for p in outer:
        if p not in outer.values():
            chain = [p]
            while chain[0] in outer:
                chain.insert(0, outer[chain[0]])
            chains.append(chain)
    return chains
