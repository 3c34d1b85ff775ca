"""The nests of one layer that its schedule may change, and a text by which equal ones are recognised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import linear_form
from loopmorph.passes.analysis.memory.box import Box
from loopmorph.passes.analysis.memory.dataflow import effects, outermost
from loopmorph.passes.analysis.memory.zero_halo import live_box
from loopmorph.passes.errors import IllegalTransform

_PLAIN = frozenset({"affine.load", "affine.store"})
_ACCESSES = _PLAIN | {"affine.vector_load", "affine.vector_store", "affine.prefetch"}


@dataclass(frozen=True)
class Run:
    """Neighbouring operations of a function's body.

    Attributes:
        ops: the operations, in program order.
        after: the operation just after them.
    """

    ops: tuple[ir.Operation, ...]
    after: ir.Operation


@dataclass(frozen=True)
class Place:
    """Where the results of a group begin: an offset that all of its accesses to them share.

    Attributes:
        memref: the memref of the results.
        offset: a constant for each axis; 0 for the last, along which there may be vectors.
        is_own: whether the group reads there only what it has written; then the memref's extents but the last mean
            nothing to it.
    """

    memref: ir.Value
    offset: tuple[int, ...]
    is_own: bool


@dataclass(frozen=True)
class LayerGroup:
    """A layer's main nest, its start values, and the nests and allocations of local memrefs that it alone uses.

    Attributes:
        layer: qualified name of the layer.
        runs: the operations, in program order.
        outside: the values from outside that they use, in the order of their first use.
        live: for each of these a box around all but zeros that the program writes to it, None where that is not known.
        nodes: the names of the FX nodes that they compute, in the order of their first mark.
        place: where in the memref of the results, one from outside, the results lie.
        text: equal for groups that differ in names, in the memrefs outside, in the place of the results and, where
            that is the group's own, in the extents of their memref only.
    """

    layer: str
    runs: tuple[Run, ...]
    outside: tuple[ir.Value, ...]
    live: tuple[Box | None, ...]
    nodes: tuple[str, ...]
    place: Place | None
    text: str

    @property
    def ops(self) -> tuple[ir.Operation, ...]:
        """The operations of all runs, in program order."""
        return tuple(op for run in self.runs for op in run.ops)


def layer_group(layer: str, main: ir.Operation) -> LayerGroup | None:
    """The group around a layer's main nest; wants the context to be entered.

    Returns:
        None where what else the program does might matter to the layer's schedule: it uses values from outside that
        are no arguments, allocations of static size or constants, or its start values are not written just before it
        and by a nest of its own (other allocations and constants may stand in between).
    """
    members = _members(layer, main)
    body = [op.operation for op in main.block.operations]
    places = [k for k, op in enumerate(body) if op in members]
    written = effects(main).writes
    starts = [k for k in places if body[k] != main and written & effects(body[k]).writes]
    if not starts:
        return None
    between = [op for op in body[starts[-1] + 1 : body.index(main)] if op not in members]
    if any(op.name not in ("memref.alloc", "arith.constant") for op in between):
        return None
    firsts = [k for k in places if k - 1 not in places]
    lasts = [k for k in places if k + 1 not in places]
    runs = tuple(Run(tuple(body[first : last + 1]), body[last + 1]) for first, last in zip(firsts, lasts, strict=True))
    place = _place(written, [op for run in runs for op in run.ops])
    writer = _Writer(place)
    for run in runs:
        writer.lines.append("run")
        for op in run.ops:
            writer.write(op)
    if not writer.is_understood:
        return None
    text, outside = "\n".join(writer.lines), tuple(writer.outside)
    return LayerGroup(layer, runs, outside, tuple(writer.outside.values()), tuple(writer.nodes), place, text)


def _members(layer: str, main: ir.Operation) -> set[ir.Operation]:
    """The main nest, the layer's nests before it that write its results, and those of memrefs that they alone use."""
    touched = effects(main)
    members = {main}
    for memref in touched.reads | touched.writes:
        users = {outermost(use.owner.operation) for use in memref.uses} - {main}
        own = {op for op in users if _is_earlier_nest(op, layer, main)}
        if memref in touched.writes:
            members |= own
        elif own == users and not isinstance(memref.owner, ir.Block) and memref.owner.name == "memref.alloc":
            members |= {memref.owner.operation, *own}
    return members


def _is_earlier_nest(op: ir.Operation, layer: str, main: ir.Operation) -> bool:
    return (
        isinstance(op.opview, affine.AffineForOp)
        and marks.get_text(op, marks.LAYER) == layer
        and op.is_before_in_block(main)
    )


def move_accesses(memref: ir.Value, offset: Sequence[int]) -> None:
    """Adds constants to the indices, one for each axis, of all accesses to a memref (see `is_movable`)."""
    for op in [use.owner.operation for use in memref.uses]:
        op.attributes["map"] = ir.AffineMapAttr.get(_moved(op, offset))


def is_movable(memref: ir.Value) -> bool:
    """Whether all uses of a memref are accesses of which the affine map says where they go."""
    return all(use.owner.operation.name in _ACCESSES for use in memref.uses)


def _place(written: frozenset[ir.Value], members: Sequence[ir.Operation]) -> Place | None:
    """The place of the results where they go to one memref by plain accesses; None where that is not so."""
    if len(written) != 1:
        return None
    (memref,) = written
    inside, owner = set(members), memref.owner
    users = [use.owner.operation for use in memref.uses]
    accesses = [op for op in users if outermost(op) in inside]
    is_local = not isinstance(owner, ir.Block) and owner.operation in inside
    if is_local or not all(op.name in _PLAIN for op in accesses):
        return None
    offsets = {tuple(map(_constant, _map(op).results)) for op in accesses}
    first = min(offsets)
    rank = len(first)
    offset = tuple(first[k] if k < rank - 1 and len({o[k] for o in offsets}) == 1 else 0 for k in range(rank))
    loaded, stored = ({_element(op) for op in accesses if op.name == name} for name in ("affine.load", "affine.store"))
    return Place(memref, offset, loaded <= stored)


def _element(op: ir.Operation) -> tuple[ir.Attribute | ir.Value, ...]:
    """Which element a plain access touches: its map and the values that the map is of."""
    operands = list(op.operands)
    return (op.attributes["map"], *operands[1 if op.name == "affine.load" else 2 :])


def _any_extents(type_: ir.Type) -> ir.MemRefType:
    """A memref's type with all extents but the last left open."""
    known = ir.MemRefType(type_)
    shape = [*([ir.ShapedType.get_dynamic_size()] * (known.rank - 1)), *known.shape[-1:]]
    unknown = ir.Location.unknown(known.context)
    return ir.MemRefType.get(shape, known.element_type, known.layout, known.memory_space, unknown)


def _constant(expr: ir.AffineExpr) -> int:
    """The constant term of a linear expression, 0 for any other."""
    form = linear_form(expr)
    return 0 if form is None else form.constant


def _map(op: ir.Operation) -> ir.AffineMap:
    return ir.AffineMapAttr(op.attributes["map"]).value


def _moved(op: ir.Operation, offset: Sequence[int]) -> ir.AffineMap:
    """The map of an access with constants added."""
    map_ = _map(op)
    return ir.AffineMap.get(map_.n_dims, 0, [e + by for e, by in zip(map_.results, offset, strict=True)])


class _Writer:
    """Spells operations with all values numbered, the place of the results and what means nothing there left out.

    Attributes:
        lines: the text so far.
        outside: the values from outside, with the boxes around all but zeros in them.
        nodes: the names of the FX nodes.
        is_understood: whether every value from outside is an argument, a constant or an allocation of static size of
            which it is known who writes where.
    """

    def __init__(self, place: Place | None) -> None:
        self._place = place
        self._back = () if place is None else tuple(-k for k in place.offset)
        self.lines: list[str] = []
        self.outside: dict[ir.Value, Box | None] = {}
        self.nodes: dict[str, int] = {}
        self.is_understood = True
        self._numbers: dict[ir.Value, int] = {}

    def write(self, op: ir.Operation) -> None:
        """Adds an operation with all that it holds."""
        operands = [self._number(v) for v in op.operands]
        attributes = sorted(f"{name}={self._attribute(name, op)}" for name in op.attributes if name != marks.LAYER)
        results = self._define(op.results)
        self.lines.append(f"{results} = {op.name} {operands} {attributes}")
        for region in op.regions:
            for block in region.blocks:
                self.lines.append(f"({self._define(block.arguments)}")
                for inner in block.operations:
                    self.write(inner.operation)
                self.lines.append(")")

    def _attribute(self, name: str, op: ir.Operation) -> str:
        if name == marks.NODE:
            return str(self.nodes.setdefault(marks.get_text(op, name), len(self.nodes)))
        if name == "map" and any(self._back) and self._place is not None and self._place.memref in op.operands:
            return str(ir.AffineMapAttr.get(_moved(op, self._back)))
        return str(op.attributes[name])

    def _define(self, values: Iterable[ir.Value]) -> str:
        defined = []
        for value in values:
            self._numbers[value] = len(self._numbers)
            defined.append(f"{self._numbers[value]}: {value.type}")
        return ", ".join(defined)

    def _number(self, value: ir.Value) -> int:
        if value not in self._numbers:
            is_own = self._place is not None and self._place.is_own and value == self._place.memref
            self.outside[value] = None if is_own else self._live(value)
            self._numbers[value] = len(self._numbers)
            spelt = f"{self._numbers[value]}: {_any_extents(value.type) if is_own else value.type}"
            self.lines.append(f"outside {spelt} {self._source(value)} {self.outside[value]}")
        return self._numbers[value]

    def _source(self, value: ir.Value) -> str:
        """What matters of where a value from outside comes from."""
        owner = value.owner
        if isinstance(owner, ir.Block):
            function = owner.owner
            if "arg_attrs" not in function.attributes:
                return "argument"
            attributes = ir.ArrayAttr(function.attributes["arg_attrs"])[ir.BlockArgument(value).arg_number]
            return f"argument {sorted(a.name for a in ir.DictAttr(attributes))}"
        if owner.name == "arith.constant":
            return f"constant {owner.attributes['value']}"
        self.is_understood &= owner.name == "memref.alloc" and not len(owner.operands)
        return str(owner.name)

    def _live(self, value: ir.Value) -> Box | None:
        try:
            return live_box(value)
        except IllegalTransform:  # an index that is no affine function of the iterators
            self.is_understood = False
            return None
