"""Names that isl reads: of statements, iterators and memrefs; unique, and the same from run to run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.address import Address, name_of
from loopmorph.passes.analysis.definitions import definition
from loopmorph.passes.analysis.dependence.aliasing import VIEWS
from loopmorph.passes.nest import function_roots, functions

# isl's own words, in any case, and the names that it gives to existentially quantified variables.
_WORD = re.compile(
    r"and|or|not|exists|implies|true|false|infty|infinity|nan|rat|min|max|mod|floord?|ceild?|e\d+", re.IGNORECASE
)
_STORES = frozenset({"affine.store", "affine.vector_store"})


def identifier(text: str) -> str:
    """The text as isl can read it as a name: `layer1.0.conv1` becomes `layer1_0_conv1`, `0` becomes `_0`."""
    plain = re.sub(r"\W", "_", text, flags=re.ASCII) or "_"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    return f"{plain}_" if _WORD.fullmatch(plain) else plain


class Names:
    """Gives names, each once; where two texts would have one, the later gets a number: `a_b`, `a_b_2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, text: str) -> str:
        """The identifier of the text."""
        plain, number = identifier(text), 1
        name = plain
        while name in self._taken:
            number += 1
            name = f"{plain}_{number}"
        self._taken.add(name)
        return name


def unique(texts: Sequence[str]) -> tuple[str, ...]:
    """An identifier for each text."""
    names = Names()
    return tuple(names.take(text) for text in texts)


def nest_names(module: ir.Operation) -> list[tuple[str, str]]:
    """For each nest, in program order, its address and what the names of its statements begin with.

    `conv1#pad` is `conv1_pad`, of several main nests of `a` the second is `a#main.1` and `a_main_1`. A nest without a
    layer goes by the node that it computes.
    """
    roots = [root for function in functions(module) for root in function_roots(function)]
    count, met, names = Counter(map(name_of, roots)), Counter[tuple[str, str]](), Names()
    found = []
    for root in roots:
        layer, role = key = name_of(root)
        number = met[key] if layer and count[key] > 1 else None
        met[key] += 1
        base = layer or marks.get_text(root, marks.NODE) or "nest"
        name = names.take(f"{base}_{role}" if number is None else f"{base}_{role}_{number}")
        found.append((str(Address(layer, role, number)) if layer else name, name))
    return found


def memref_names(function: func.FuncOp, nests: Sequence[str]) -> dict[ir.Value, str]:
    """A name for each memref of a function.

    A parameter has its own, an input, output, packed or scratch memref that of its mark, any other argument its
    number; what is allocated goes by the nest that computes it; a view is named after what it is a view of.

    Args:
        function: the function.
        nests: the names of its nests, as `nest_names` gives them.
    """
    names, found = Names(), dict[ir.Value, str]()
    for number, (value, mine) in enumerate(
        zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    ):
        if isinstance(value.type, ir.MemRefType):
            found[value] = names.take(_argument_name(mine, number))
    writers = _writers(function, nests)
    for value in _results(function):
        op = definition(value)
        if op is not None and op.name in VIEWS:
            found[value] = names.take(f"{found.get(op.operands[0], 'memref')}_view")
        else:
            found[value] = names.take(writers.get(value, "buffer"))
    return found


def _argument_name(mine: dict[str, ir.Attribute], number: int) -> str:
    if marks.PARAM in mine:
        return ir.StringAttr(mine[marks.PARAM]).value
    for mark in (marks.INPUT, marks.OUTPUT, marks.PACKED):
        if mark in mine:
            return f"{mark.removeprefix('morph.')}{ir.IntegerAttr(mine[mark]).value}"
    return "scratch" if marks.SCRATCH in mine else f"arg{number}"


def _writers(function: func.FuncOp, nests: Sequence[str]) -> dict[ir.Value, str]:
    """What is stored to -> `NEST_out`, of the first nest that computes it, else of the first that stores to it."""
    found: dict[ir.Value, tuple[int, str]] = {}
    for root, name in zip(function_roots(function), nests, strict=True):
        role = name_of(root)[1]
        rank = 0 if role in marks.COMPUTING else 2 if role == marks.INIT else 1
        for value in _stored(root.operation):
            if value not in found or rank < found[value][0]:
                found[value] = rank, f"{name}_out"
    return {value: name for value, (_, name) in found.items()}


def _stored(root: ir.Operation) -> list[ir.Value]:
    found: dict[ir.Value, None] = {}

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name in _STORES:
            found[op.operands[1]] = None
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return list(found)


def _results(function: func.FuncOp) -> Iterator[ir.Value]:
    """The memrefs that operations of the function make, in program order."""
    found: list[ir.Value] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        found.extend(value for value in op.results if isinstance(value.type, ir.MemRefType))
        return ir.WalkResult.ADVANCE

    function.operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    yield from found
