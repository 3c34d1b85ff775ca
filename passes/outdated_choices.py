"""Choices (`morph-choose`) that were made for a nest before a transformation of the network made another of it."""

from __future__ import annotations

from collections.abc import Mapping

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.choice import WINOGRAD_TILES
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest, nest_roots, view_nest
from loopmorph.passes.winograd.match import match_convolution
from loopmorph.passes.winograd.matrices import ALGORITHMS

Key = tuple[str, str]  # layer and role


def chosen_nests(module: ir.Operation) -> dict[Key, list[str]]:
    """What each nest of which something was chosen is like, by layer and role."""
    found: dict[Key, list[str]] = {}
    for root in _chosen(module):
        found.setdefault(_key(root), []).append(_text(view_nest(root)))
    return found


def drop_outdated(module: ir.Operation, before: Mapping[Key, list[str]]) -> None:
    """Takes back what was chosen for nests that have changed since, where they may not admit it any more.

    That is a register block, whose factors went with the old extents, how many images are computed at a time, as others
    may read the same now, and a winograd algorithm, if the nest is no such convolution now.

    Args:
        module: the module after the change.
        before: what `chosen_nests` returned before it.
    """
    for root in _chosen(module):
        nest = view_nest(root)
        if _text(nest) in before.get(_key(root), []):
            continue
        for name in (marks.BLOCK, marks.SAMPLES):
            if name in root.attributes:
                del root.attributes[name]
        tile = WINOGRAD_TILES.get(marks.get_text(root, marks.ALGORITHM))
        if tile is not None and not _admits(nest, tile):
            del root.attributes[marks.ALGORITHM]


def _admits(nest: Nest, tile: int) -> bool:
    try:
        convolution = match_convolution(nest)
    except IllegalTransform:
        return False
    known = tile in ALGORITHMS[convolution.stride]
    return known and all(convolution.extent(p) >= tile for p in convolution.space)


def _chosen(module: ir.Operation) -> list[affine.AffineForOp]:
    names = (marks.ALGORITHM, marks.BLOCK, marks.SAMPLES)
    return [r for r in nest_roots(module) if any(name in r.attributes for name in names)]


def _key(root: affine.AffineForOp) -> Key:
    return marks.get_text(root, marks.LAYER), marks.get_text(root, marks.ROLE, marks.MAIN)


def _text(nest: Nest) -> str:
    """Its loops and accesses."""
    accesses = [(a.kind, [str(e) for e in a.exprs], str(a.memref.type)) for a in nest.accesses]
    return str((nest.iterators, nest.extents, accesses))
