"""The polyhedral view of a program as text: a YAML stream with a document for each nest.

The values of a document's keys are in isl's notation, so that `isl.UnionSet(document["domain"])`,
`isl.UnionMap(document["flow"])` and `isl.Schedule(document["schedule"])` read them back.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import islpy as isl
from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes.address import name_of
from loopmorph.passes.analysis.dependence.aliasing import VIEWS
from loopmorph.passes.analysis.polyhedral.names import memref_names, nest_names
from loopmorph.passes.analysis.polyhedral.view import PolyhedralView, polyhedral_view
from loopmorph.passes.errors import IllegalTransform, one_line
from loopmorph.passes.nest import function_roots, functions, nest_roots, view_nest

WIDTH = 120
_SILENT_DIALECTS = ("arith", "math", "index", "ub")
_SILENT = VIEWS | {"func.return", "memref.alloc", "memref.alloca", "memref.dealloc", "affine.apply", "affine.for"}


@dataclass(frozen=True)
class Document:
    """The text of one nest, or of what a function holds besides nests.

    Attributes:
        title: the function and the nest's address in it, `@main conv1#pad`; the function alone for the latter.
        lines: its lines, without the line that sets documents apart.
    """

    title: str
    lines: tuple[str, ...]


def polyhedral_documents(module: ir.Operation, width: int = WIDTH, layer: str | None = None) -> list[Document]:
    """The documents of all functions of a module.

    Args:
        module: the module.
        width: of the lines; those of schedule trees, which isl reads only as they are, and long names exceed it.
        layer: where given, only those of this layer's nests, which may be none.

    Raises:
        IllegalTransform: there is no nest at all.
    """
    if not nest_roots(module):
        raise IllegalTransform("program", "it has no `affine.for` nest to show; lower it to affine loops first")
    with module.context:
        names = iter(nest_names(module))
        return [document for function in functions(module) for document in _of_function(function, names, width, layer)]


def polyhedral_text(module: ir.Operation) -> str:
    """The documents as one YAML stream. Raises as `polyhedral_documents` does."""
    return "".join("---\n" + "".join(f"{line}\n" for line in d.lines) for d in polyhedral_documents(module))


def _of_function(
    function: func.FuncOp, names: Iterator[tuple[str, str]], width: int, layer: str | None
) -> Iterator[Document]:
    where, roots = f"@{function.sym_name.value}", function_roots(function)
    own = [next(names) for _ in roots]
    others = _others(function)
    if others and layer is None:
        yield Document(where, (f"# {where}: not shown, as it is in no nest: {others}",))
    memrefs = memref_names(function, [name for _, name in own])
    for root, (address, name) in zip(roots, own, strict=True):
        if layer is not None and name_of(root)[0] != layer:
            continue
        lines = [f"nest: {json.dumps(address)}", f"function: {json.dumps(function.sym_name.value)}"]
        try:
            lines += _lines(polyhedral_view(view_nest(root, guarded=True), name, memrefs), width)
        except IllegalTransform as refusal:
            lines.append(f"refused: {json.dumps(one_line(str(refusal)))}")
        yield Document(f"{where} {address}", tuple(lines))


def _others(function: func.FuncOp) -> str:
    """The operations of a function that do something and belong to no nest."""
    names = [op.operation.name for op in function.entry_block.operations]
    count = Counter(n for n in names if n not in _SILENT and n.split(".")[0] not in _SILENT_DIALECTS)
    return ", ".join(name if k == 1 else f"{name} ({k})" for name, k in count.items())


def _lines(view: PolyhedralView, width: int) -> Iterator[str]:
    if view.prefetches:
        yield f"# not shown, as it changes no value: affine.prefetch ({view.prefetches})"
    yield "memrefs:" if view.memrefs else "memrefs: {}"
    yield from (f"  {name}: {json.dumps(kind)}" for name, kind in view.memrefs.items())
    yield from _relation("domain", view.domains, width)
    yield from _relation("reads", view.reads, width)
    yield from _relation("may_reads", view.may_reads, width) if view.may_reads else ()
    yield from _relation("writes", view.writes, width)
    order = {domain.get_tuple_name(): k for k, domain in enumerate(view.domains)}
    found = view.dependences
    if found is None:
        yield "# dependences: not shown, as isl takes too many steps to find them; so bands are single loops"
    else:
        for key in ("flow", "anti", "output", "reduction"):
            yield from _relation(key, _sorted(getattr(found, key), order), width)
        if found.assumed:
            yield "# some dependences are assumed: memrefs may overlap"
    yield "schedule: |"
    printer = isl.Printer.to_str(isl.DEFAULT_CONTEXT).set_yaml_style(isl.yaml_style.BLOCK)
    yield from (f"  {line}" for line in printer.print_schedule(view.schedule).get_str().splitlines())


def _relation(key: str, parts: Sequence[isl.Set | isl.Map], width: int) -> Iterator[str]:
    """`key: |` and, a line each, the parts of a union."""
    yield f"{key}: |"
    texts = [t for part in parts if not part.is_empty() for t in str(part)[2:-2].split("; ")]
    for k, text in enumerate(texts or [""]):
        opened, closed = "{ " if k == 0 else "  ", ";" if k < len(texts) - 1 else " }"
        yield from wrapped(f"  {opened}{text}{closed}" if text else "  { }", width)


def wrapped(line: str, width: int) -> list[str]:
    """A line of isl's notation as lines of at most so many characters, if its words admit it."""
    indent = " " * (len(line) - len(line.lstrip(" {")) + 4)
    lines = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines or [line]


def _sorted(relation: isl.UnionMap, order: dict[str, int]) -> list[isl.Map]:
    maps = relation.get_map_list()
    sides = isl.dim_type.in_, isl.dim_type.out
    return sorted(
        (maps.get_at(k) for k in range(maps.n_map())), key=lambda m: [order[m.get_tuple_name(s)] for s in sides]
    )
