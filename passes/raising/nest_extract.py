"""From a layer's nests in MLIR to a `Recipe`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import outermost
from loopmorph.passes.analysis.unseen import is_unseen
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.affine_forms import from_expr
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_cells import apart, chain, destination, is_free_between, sole_cell
from loopmorph.passes.raising.nest_normal import normalise
from loopmorph.passes.raising.nest_order import Instance, check_distribution
from loopmorph.passes.raising.nest_partial import without_partial_sums
from loopmorph.passes.raising.nest_recipe import Buffer, BufferKind, Call, Load, Recipe, Statement, Value
from loopmorph.passes.raising.nest_values import Held, Values, at_lane, combination, is_arithmetic, refuse, width_of

_LOADS = ("affine.load", "affine.vector_load")
_STORES = ("affine.store", "affine.vector_store")
# What changes no memory, or is looked at where it is used.
_PASSIVE = frozenset(
    {
        *("affine.yield", "affine.apply", "affine.prefetch", "memref.alloc", "memref.dealloc", "memref.alloca"),
        *("vector.broadcast", "vector.extract", "vector.from_elements"),
    }
)


@dataclass(frozen=True)
class Extraction:
    """A recipe, and what each of its buffers stands for (valid as long as the IR stays as it is).

    That is a memref, or for values that a loop carries in registers the loop's result.
    """

    recipe: Recipe
    memrefs: tuple[ir.Value, ...]


def extract(nests: Sequence[Nest]) -> Extraction:
    """The statements of one layer's nests, normalised: loops coalesced, un-fused, those of extent 1 dropped.

    How the nests are scheduled does not show, as far as that can be undone: the lanes of vectors become iterations of
    a loop, values that loops carry in registers go back to the memory that they end up in, or else to a buffer that
    has an element for each iteration of the loops around.

    Args:
        nests: all nests of the layer, in program order.

    Raises:
        IllegalTransform: an operation that is neither a load, a store nor scalar arithmetic, lane by lane; or
            statements of one nest whose order matters.
    """
    if not nests:
        raise IllegalTransform("layer", "it has no loop nest")
    with nests[0].root.operation.context:
        return _Extractor(nests).run()


@dataclass(frozen=True)
class _Place:
    """Where statements of a nest stand.

    Attributes:
        nest: the nest.
        around: the loops around, outermost first.
        guards: what their bounds demand beyond their extents.
    """

    nest: Nest
    around: tuple[int, ...] = ()
    guards: tuple[Form, ...] = ()


@dataclass
class _Extractor:
    nests: Sequence[Nest]
    memrefs: dict[ir.Value, int] = field(default_factory=dict)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    loops: dict[ir.Value, Form] = field(default_factory=dict)
    extents: dict[int, int] = field(default_factory=dict)
    values: Values = field(default_factory=Values)
    cells: dict[ir.Value, Held] = field(default_factory=dict)
    instances: list[Instance] = field(default_factory=list)
    unseen: dict[ir.Value, bool] = field(default_factory=dict)
    clock: int = 0

    def run(self) -> Extraction:
        statements: list[Statement] = []
        for nest in self.nests:
            self.instances = []
            self._loop(nest.root, _Place(nest))
            check_distribution(nest.label, self.instances)
            merged = without_partial_sums([i.statement for i in self.instances], frozenset(self.shapes))
            statements += [s for each in merged if (s := normalise(each)) is not None]
        memrefs = tuple(self.memrefs)
        buffers = tuple(self._buffer(m, k) for k, m in enumerate(memrefs))
        return Extraction(Recipe(self.nests[0].layer, buffers, tuple(statements)), memrefs)

    # -- control

    def _loop(self, op: affine.AffineForOp, place: _Place) -> None:
        carried = [self._cell(op.operation.results[k], v, op.operation, place) for k, v in enumerate(op.inits)]
        number = self._new_loop(0)
        guards = self._bind(place.nest, op, number)
        inner = _Place(place.nest, (*place.around, number), (*place.guards, *guards))
        for cell, value in zip(carried, op.inner_iter_args, strict=True):
            self._hold(value, cell, inner)
        for each in op.body.operations:
            self.clock += 1
            self._operation(each, inner)
        yielded = op.body.operations[len(op.body.operations) - 1].operands
        for cell, value in zip(carried, yielded, strict=True):
            self._assign(cell, value, inner)
        for cell, value in zip(carried, op.operation.results, strict=True):
            self._hold(value, cell, place)

    def _operation(self, op: ir.OpView, place: _Place) -> None:
        name = op.operation.name
        if isinstance(op, affine.AffineForOp):
            self._loop(op, place)
        elif name in (*_LOADS, *_STORES) and self._is_unseen(op.operation.operands[1 if name in _STORES else 0]):
            pass  # where a maximum lies, which nobody asks for
        elif name in _LOADS:
            load = self._access(op.operation, place.nest)
            self.values.held[op.operation.results[0]] = Held(load, place.around, self.clock)
        elif name in _STORES:
            self._assign(self._access(op.operation, place.nest), op.operation.operands[0], place)
        elif name == "vector.reduction":
            self._reduction(op.operation, place)
        elif name not in _PASSIVE and not is_arithmetic(op.operation):
            refuse(place.nest.label, op.operation, "no case for it in PyTorch")

    def _is_unseen(self, memref: ir.Value) -> bool:
        if memref not in self.unseen:
            self.unseen[memref] = is_unseen(memref)
        return self.unseen[memref]

    def _new_loop(self, extent: int) -> int:
        number = len(self.extents)
        self.extents[number] = extent
        return number

    def _bind(self, nest: Nest, op: affine.AffineForOp, number: int) -> tuple[Form, ...]:
        """Numbers the loop from 0 with step 1; returns what its bounds demand beyond the extent."""
        step = ir.IntegerAttr(op.attributes["step"]).value
        lower = self._bound(nest, op, "lowerBoundMap", list(op.lowerBoundOperands))
        uppers = self._bound(nest, op, "upperBoundMap", list(op.upperBoundOperands))
        start: Form = lower[0]
        least: tuple[Form, ...] = ()
        if len(lower) != 1:
            if step != 1:
                refuse(nest.label, op.operation, "a lower bound that is a maximum, in steps of more than 1")
            start = forms.constant(max(forms.bounds(low, self.extents)[0] for low in lower))
            least = tuple(forms.add(start, forms.scale(low, -1), forms.loop(number)) for low in lower)
        lengths = [forms.add(u, forms.scale(start, -1)) for u in uppers]
        self.extents[number] = max(0, min(-(-forms.bounds(n, self.extents)[1] // step) for n in lengths))
        self.loops[op.induction_variable] = forms.add(start, forms.loop(number, step))
        passed = forms.add(forms.loop(number, -step), forms.constant(-1))
        return (*least, *(forms.add(n, passed) for n in lengths if n.terms))

    def _bound(self, nest: Nest, op: affine.AffineForOp, name: str, operands: list[ir.Value]) -> list[Form]:
        map_ = ir.AffineMapAttr(op.attributes[name]).value
        values = [self._index(v, nest) for v in operands]
        return [from_expr(e, values, self.extents) for e in map_.results]

    # -- values in registers

    def _cell(self, result: ir.Value, init: ir.Value, op: ir.Operation, place: _Place) -> Load:
        """Where a value that an operation makes from a start value, step by step, is kept meanwhile: first element.

        That is where the start value is kept already; or where the result will be stored; or a new buffer.
        """
        known = sole_cell(init, self.cells, place.around)
        cell = known or self._final_place(result, op, place) or self._new_cell(result, place)
        self._assign(cell, init, place)
        return cell

    def _final_place(self, result: ir.Value, op: ir.Operation, place: _Place) -> Load | None:
        store = destination(result, op)
        if store is None or not is_free_between(op, store, lambda access: self._access(access, place.nest).index):
            return None
        return self._access(store, place.nest)

    def _new_cell(self, result: ir.Value, place: _Place) -> Load:
        number = self.memrefs.setdefault(result, len(self.memrefs))
        width = width_of(result)
        lanes = () if width is None else (width,)
        self.shapes[number] = (*(self.extents[n] for n in place.around), *lanes)
        return Load(number, (*map(forms.loop, place.around), *(Form() for _ in lanes)))

    def _hold(self, value: ir.Value, cell: Load, place: _Place) -> None:
        self.clock += 1
        self.cells[value] = self.values.held[value] = Held(cell, place.around, self.clock)

    def _reduction(self, op: ir.Operation, place: _Place) -> None:
        """The lanes of a vector combined with a start value."""
        combine = combination(op, place.nest.label)
        if len(op.operands) != 2:
            refuse(place.nest.label, op, "no start value")
        cell = self._cell(op.results[0], op.operands[1], op, place)
        self._store(cell, op.operands[0], place, combine, across=True)
        self._hold(op.results[0], cell, place)

    # -- statements

    def _assign(self, target: Load, value: ir.Value, place: _Place) -> None:
        """The statements that put a value, all lanes of a vector, to its place; none where it is there already."""
        self.clock += 1
        held = self.values.held.get(value)
        steps = chain(value, target, self.cells)
        if steps is not None:
            for term in steps[1]:
                self.clock += 1
                self._store(target, term, place, steps[0])
        elif held is None or (held.load, held.around) != (target, place.around) or self._is_stale(held):
            self._store(target, value, place)
        self.written.add(target.buffer)

    def _is_stale(self, held: Held) -> bool:
        """Whether the element may have changed since it was read."""
        later = [i.statement.target for i in self.instances if i.time > held.time]
        return any(t.buffer == held.load.buffer and not apart(t.index, held.load.index) for t in later)

    def _store(self, target: Load, value: ir.Value, place: _Place, combine: str = "", across: bool = False) -> None:
        """`target = value`, or `target = combine(target, value)`; lane by lane, `across` all into one element."""
        width = width_of(value)
        lanes: list[Form | None] = [None]
        loops: tuple[int, ...] = ()
        if width is not None and self.values.is_even(value):
            loops = (self._new_loop(width),)
            lanes = [forms.loop(loops[0])]
        elif width is not None:
            lanes = [forms.constant(k) for k in range(width)]
        around = (*place.around, *loops)
        extents = tuple(self.extents[n] for n in around)
        for lane in lanes:
            read: list[Held] = []
            result: Value = self.values.of(value, lane, place.nest.label, read)
            element = target if across or lane is None else at_lane(target, lane)
            if combine:
                result = Call(combine, (element, result))
                read.append(Held(element, place.around, self.clock))
            statement = Statement(around, extents, element, result, place.guards, place.nest.role)
            seen = tuple((r.load, (*r.around, *loops), r.time) for r in read)
            self.instances.append(Instance(statement, seen, self.clock))

    # -- accesses

    def _access(self, op: ir.Operation, nest: Nest) -> Load:
        """The element that a load or store touches, of a vector the first one."""
        memref, *indices = list(op.operands)[1 if op.name in _STORES else 0 :]
        map_ = ir.AffineMapAttr(op.attributes["map"]).value
        operands = [self._index(v, nest) for v in indices]
        index = tuple(from_expr(e, operands, self.extents) for e in map_.results)
        return Load(self.memrefs.setdefault(memref, len(self.memrefs)), index)

    def _index(self, value: ir.Value, nest: Nest) -> Form:
        if value in self.loops:
            return self.loops[value]
        owner = value.owner
        if not isinstance(owner, ir.Block):
            view = owner.opview if isinstance(owner, ir.Operation) else owner
            if isinstance(view, affine.AffineApplyOp):
                map_ = ir.AffineMapAttr(view.attributes["map"]).value
                return from_expr(map_.results[0], [self._index(v, nest) for v in view.operands], self.extents)
            if view.operation.name == "arith.constant":
                return forms.constant(ir.IntegerAttr(view.attributes["value"]).value)
        raise IllegalTransform(nest.label, "an index is no affine function of the iterators")

    # -- buffers

    def _buffer(self, memref: ir.Value, number: int) -> Buffer:
        if number in self.shapes:
            return Buffer("temporary", self.shapes[number])
        shape = tuple(ir.MemRefType(memref.type).shape)
        parameter = marks.parameter_name(memref)
        if parameter is not None:
            return Buffer("parameter", shape, parameter)
        kind: BufferKind = "input"
        if number in self.written:
            kind = "output" if self._is_read_elsewhere(memref) else "temporary"
        return Buffer(kind, shape)

    def _is_read_elsewhere(self, memref: ir.Value) -> bool:
        if isinstance(memref.owner, ir.Block):
            return True
        roots = [nest.root.operation for nest in self.nests]
        users = [use.owner.operation for use in memref.uses]
        return any(op.name not in ("memref.alloc", "memref.dealloc") and outermost(op) not in roots for op in users)
