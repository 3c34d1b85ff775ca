"""Names for nests, and for the operations that become nests, of programs that nobody here imported.

The name of a layer, `morph.layer`, is what a user has set; else the name in the operation's location
(`loc("conv1")`); else the operation's name and number (`matmul.0`, `for.2`), counted through the module. It is written
into the program, also into its location, from where it is read again after a pass that makes other nests of it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import affine, func

from loopmorph.passes import marks
from loopmorph.passes.analysis.helpers import REARRANGING, gives_start_values, helped_by
from loopmorph.passes.analysis.nest_iterators import nest_iterators
from loopmorph.passes.diagnostics import location_name
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import constant_extent, function_roots, functions, nest_roots, view_nest, walk_loops

_MAKING = frozenset({"tensor.concat", "tensor.insert_slice", "tensor.pad", "memref.copy"})  # a nest, besides linalg
_SEPARATORS = re.compile(r"[\s,={}'\"#]+")  # what a pass pipeline and an address give a meaning to


def name_nests(module: ir.Operation) -> None:
    """Gives every nest, and every linalg and tensor operation that becomes one, a layer, and every loop an iterator.

    What has a name keeps it. Fills and pads belong to the layer of the one operation that they are for.
    """
    with module.context, ir.Location.unknown():
        found = functions(module)
        names = _Names()
        for function in found:
            names.learn(function)
        for function in found:
            names.name_all(function, _operations(function), lambda op: op.name.partition(".")[2])
        for function in found:
            names.name_all(function, _unnamed_roots(function), lambda _: "for")
        tell_helpers(module, names.new)
        for root in (root for function in found for root in function_roots(function)):
            if any(marks.ITER not in loop.attributes for loop in walk_loops(root)):
                _name_iterators(root)


def tell_helpers(module: ir.Operation, layers: Collection[str] | None = None) -> None:
    """Leaves one "main" nest to each layer: the largest; those before it become "prologue", those after "epilogue".

    Args:
        module: the module.
        layers: the layers concerned, by default all.
    """
    if layers is not None and not layers:
        return
    mains: dict[str, list[affine.AffineForOp]] = {}
    for root in nest_roots(module):
        layer = marks.get_text(root, marks.LAYER)
        main = marks.get_text(root, marks.ROLE, marks.MAIN) == marks.MAIN
        if main and layer and (layers is None or layer in layers):
            mains.setdefault(layer, []).append(root)
    for roots in mains.values():
        largest = max(range(len(roots)), key=lambda k: (_points(roots[k]), k))
        for k, root in enumerate(roots):
            role = marks.PROLOGUE if k < largest else marks.EPILOGUE if k > largest else marks.MAIN
            root.attributes[marks.ROLE] = ir.StringAttr.get(role)


def _points(root: affine.AffineForOp) -> int:
    return math.prod(constant_extent(loop) or 0 for loop in walk_loops(root))


@dataclass
class _Names:
    """The layers of a module.

    Attributes:
        places: layer -> the places (function and location) of what computes it.
        numbers: kind of operation -> how many of it have been given a number.
        new: the layers that have been named or have got a new member.
    """

    places: dict[str, set[str]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)

    def learn(self, function: func.FuncOp) -> None:
        """Notes the layers that a function has."""

        def visit(op: ir.Operation) -> ir.WalkResult:
            if marks.LAYER in op.attributes:
                self.places.setdefault(marks.get_text(op, marks.LAYER), set()).add(_place(function, op))
            return ir.WalkResult.ADVANCE

        function.operation.walk(visit)

    def name_all(self, function: func.FuncOp, unnamed: list[ir.Operation], kind: Callable[[ir.Operation], str]) -> None:
        """Gives layers to operations of a function, in program order; helpers get that of what they help."""
        helped = helped_by(function, unnamed)
        shared = _places_by_name(function, unnamed)
        for op in unnamed:
            if op not in helped:
                self._name(function, op, kind(op), shared)
        for op in reversed(unnamed):  # a pad may help a fill's reader, which comes later
            if op in helped:
                layer = marks.get_text(helped[op], marks.LAYER)
                self._set(function, op, layer)
                if gives_start_values(op):
                    op.attributes[marks.ROLE] = ir.StringAttr.get(marks.INIT)

    def _name(self, function: func.FuncOp, op: ir.Operation, kind: str, shared: dict[str, set[str]]) -> None:
        base, is_layer = _layer_in(op.location)
        if not base or is_layer:
            self._set(function, op, base or self._numbered(kind))
            return
        place = _place(function, op)
        plain = [base] if len(shared[base]) == 1 else []
        numbered = (f"{base}.{number}" for number in itertools.count())
        layer = next(n for n in itertools.chain(plain, numbered) if place in self.places.get(n, {place}))
        self._set(function, op, layer)

    def _numbered(self, kind: str) -> str:
        number = self.numbers.get(kind, 0)
        while f"{kind}.{number}" in self.places:
            number += 1
        self.numbers[kind] = number + 1
        return f"{kind}.{number}"

    def _set(self, function: func.FuncOp, op: ir.Operation, layer: str) -> None:
        self.places.setdefault(layer, set()).add(_place(function, op))
        if _layer_in(op.location) != (layer, True):
            op.location = ir.Location.name(f"{layer}@", op.location)
            self.places[layer].add(_place(function, op))
        op.attributes[marks.LAYER] = ir.StringAttr.get(layer)
        self.new.add(layer)


def _places_by_name(function: func.FuncOp, ops: Iterable[ir.Operation]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for op in ops:
        found.setdefault(_layer_in(op.location)[0], set()).add(_place(function, op))
    return found


def _place(function: func.FuncOp, op: ir.Operation) -> str:
    return f"{function.name.value} {op.location}"


def _layer_in(location: ir.Location) -> tuple[str, bool]:
    """The name in a location (`conv1`), and whether it is certainly a layer's, as importers' are: `conv1@node`."""
    name = location_name(location)
    layer, separator, node = name.rpartition("@")
    return _SEPARATORS.sub("_", layer or node), bool(separator and layer)


# -- what has no name


def _operations(function: func.FuncOp) -> list[ir.Operation]:
    """The operations without a layer that become nests; the function's end, too, which may copy results."""
    found: list[ir.Operation] = []
    named = False

    def visit(op: ir.Operation) -> ir.WalkResult:
        nonlocal named
        if op.name in _MAKING or (op.name.startswith("linalg.") and op.name not in ("linalg.yield", "linalg.index")):
            if marks.LAYER in op.attributes:
                named = True
            elif not (op.name in REARRANGING and len(op.results)):
                found.append(op)
        return ir.WalkResult.ADVANCE

    function.operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    end = list(function.entry_block.operations)[-1].operation
    copies = end.name == "func.return" and any(isinstance(v.type, ir.RankedTensorType) for v in end.operands)
    if copies and marks.LAYER not in end.attributes and (found or not named):
        found.append(end)
    return found


def _unnamed_roots(function: func.FuncOp) -> list[ir.Operation]:
    """The nests that carry neither a layer nor a role; an importer's own copies have a role and no layer."""
    roots = [root.operation for root in function_roots(function)]
    return [r for r in roots if marks.LAYER not in r.attributes and marks.ROLE not in r.attributes]


def _name_iterators(root: affine.AffineForOp) -> None:
    """Names the loops that have no name; one whose accesses cannot be read has numbers."""
    try:
        names = nest_iterators(view_nest(root))
    except IllegalTransform:
        names = [marks.get_text(loop, marks.ITER, f"i{k}") for k, loop in enumerate(walk_loops(root))]
    for loop, name in zip(walk_loops(root), names, strict=True):
        loop.attributes[marks.ITER] = ir.StringAttr.get(name)
