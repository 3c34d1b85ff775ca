"""Redirecting accesses, moving and erasing nests, while the index of a function's accesses follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes.analysis.memory.access_index import AccessIndex, Entry, Site
from loopmorph.passes.building.nest_builder import load, store


def redirect(
    op: ir.Operation, memref: ir.Value, exprs: Sequence[ir.AffineExpr], variables: Sequence[ir.Value]
) -> ir.Operation:
    """Replaces an `affine.load` or `affine.store` by one of `memref[exprs(variables)]`; returns it."""
    map_ = ir.AffineMap.get(len(variables), 0, list(exprs))
    view = op.opview
    with ir.InsertionPoint(op), op.location:
        if isinstance(view, affine.AffineLoadOp):
            loaded = load(memref, map_, variables)
            op.results[0].replace_all_uses_with(loaded)
            new = loaded.owner
        else:
            new = store(view.value, memref, map_, variables)
    op.erase()
    return new if isinstance(new, ir.Operation) else new.operation


def redirect_site(site: Site, memref: ir.Value, exprs: Sequence[ir.AffineExpr]) -> None:
    """Lets an access touch `memref[exprs]`, over its nest's loops, in place of what it touches.

    The index that the site belongs to still has it under the old memref (see `redirect_sites`).
    """
    simple = tuple(site.entry.simplified(e) for e in exprs)
    op = redirect(site.access.op, memref, simple, site.entry.variables)
    site.access = replace(site.access, op=op, memref=memref, exprs=simple)


def redirect_sites(
    index: AccessIndex, memref: ir.Value, new: ir.Value, exprs_of: Mapping[Site, Sequence[ir.AffineExpr]]
) -> None:
    """Redirects the given sites of a memref to another one."""
    for site, exprs in exprs_of.items():
        redirect_site(site, new, exprs)
    kept = [site for site in index.sites.pop(memref, []) if site not in exprs_of]
    if kept:
        index.sites[memref] = kept
    index.sites.setdefault(new, []).extend(exprs_of)


def erase_nest(index: AccessIndex, entry: Entry) -> None:
    """Erases a nest."""
    for site in entry.sites:
        index.sites[site.access.memref].remove(site)
    entry.sites = []
    index.entries.remove(entry)
    entry.nest.root.operation.erase()


def move_nest_before(index: AccessIndex, entry: Entry, other: Entry) -> None:
    """Moves a nest to the place just before another one."""
    entry.nest.root.operation.move_before(other.nest.root.operation)
    index.entries.remove(entry)
    index.entries.insert(index.entries.index(other), entry)
