"""The nest view: a read-only picture of `affine.for` nests that analyses and transformations share.

A view is taken afresh from the IR each time (handles dangle once other passes have run) and changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from torch_mlir import ir
from torch_mlir.dialects import affine, func

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import LinearForm, constraints, linear_form, substitute, used_dims, without_symbols
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import ArgumentError, IllegalTransform

LoadOp: TypeAlias = affine.AffineLoadOp | affine.AffineVectorLoadOp
StoreOp: TypeAlias = affine.AffineStoreOp | affine.AffineVectorStoreOp
_LOADS = (affine.AffineLoadOp, affine.AffineVectorLoadOp)  # `isinstance` is slow on the unions
_ACCESSES = (*_LOADS, affine.AffineStoreOp, affine.AffineVectorStoreOp)
_Frame: TypeAlias = dict[ir.Value, ir.AffineExpr]  # iterators as expressions over a nest's loops
_Guards: TypeAlias = tuple["Guard", ...]


@dataclass(frozen=True)
class Loop:
    """One `affine.for` of a nest.

    Attributes:
        op: the operation.
        iterator: its name (`morph.iter`), unique within the nest.
        position: its number in the nest, outermost first, in program order.
        depth: number of loops around it.
        extent: number of iterations where the bounds are constants, else None.
        parent: position of the loop around it, None for the outermost.
    """

    op: affine.AffineForOp
    iterator: str
    position: int
    depth: int
    extent: int | None
    parent: int | None

    @property
    def variable(self) -> ir.Value:
        """The induction variable."""
        return self.op.induction_variable


@dataclass(frozen=True)
class Bounds:
    """What a loop runs over: from the greatest of `lower` up to, not including, the smallest of `upper`, by `step`.

    The expressions range over the nest's loops: dimension p is loop p.
    """

    lower: tuple[ir.AffineExpr, ...]
    upper: tuple[ir.AffineExpr, ...]
    step: int


@dataclass(frozen=True)
class Guard:
    """One branch of an `affine.if` in a nest.

    Attributes:
        op: the `affine.if`.
        is_else: whether it is the branch that runs where not all constraints hold.
        constraints: an expression, dimension p being loop p, and whether it has to be 0, else at least 0.
    """

    op: ir.Operation
    is_else: bool
    constraints: tuple[tuple[ir.AffineExpr, bool], ...]


@dataclass(frozen=True)
class Access:
    """One `affine.load`, `affine.store`, `affine.vector_load` or `affine.vector_store` in a nest.

    Attributes:
        op: the operation.
        kind: "load" or "store".
        memref: what is accessed.
        exprs: one affine expression per axis of the memref, over all the nest's loops: dimension p is loop p.
        loops: positions of the loops around it, outermost first.
        order: its number among the nest's accesses, in program order.
        lanes: how many elements it touches, side by side along the last axis; `exprs` is the first.
        guards: the branches around it, outermost first.
    """

    op: ir.Operation
    kind: Literal["load", "store"]
    memref: ir.Value
    exprs: tuple[ir.AffineExpr, ...]
    loops: tuple[int, ...]
    order: int
    lanes: int = 1
    guards: tuple[Guard, ...] = ()

    @cached_property
    def forms(self) -> tuple[LinearForm | None, ...]:
        """`exprs` as linear forms, None for those that are not linear."""
        return tuple(linear_form(e) for e in self.exprs)

    @cached_property
    def dims(self) -> frozenset[int]:
        """Positions of the loops that index it."""
        return frozenset[int]().union(*map(used_dims, self.exprs))


@dataclass(frozen=True)
class Nest:
    """An outermost `affine.for` and everything in it; what stands in an `affine.if` only where there are `guards`."""

    root: affine.AffineForOp
    loops: tuple[Loop, ...]
    accesses: tuple[Access, ...]
    guards: tuple[Guard, ...] = ()

    @property
    def layer(self) -> str:
        """Qualified name of the layer, "" where the nest is not marked."""
        return marks.get_text(self.root, marks.LAYER)

    @property
    def role(self) -> str:
        """The nest's role for its layer (see `marks`); unmarked nests are "main"."""
        return marks.get_text(self.root, marks.ROLE, marks.MAIN)

    @property
    def label(self) -> str:
        """How error messages name the nest: the layer and, where the source gives one, the location."""
        return f"layer '{self.layer}'" if self.layer else f"loop nest at {location_text(self.root.operation.location)}"

    @property
    def iterators(self) -> tuple[str, ...]:
        """Names of the loops, outermost first, in program order."""
        return tuple(loop.iterator for loop in self.loops)

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Extents of the loops, in the same order."""
        return tuple(loop.extent for loop in self.loops)

    def loop(self, iterator: str, argument: str = "iter") -> Loop:
        """The loop of an iterator.

        Raises:
            ArgumentError: the nest has no such iterator; lists those that it has.
        """
        for loop in self.loops:
            if loop.iterator == iterator:
                return loop
        raise ArgumentError(argument, f"{self.label} has no iterator '{iterator}'; it has {', '.join(self.iterators)}")

    def around(self, position: int) -> tuple[int, ...]:
        """Positions of the loops around loop `position`, outermost first."""
        parent = self.loops[position].parent
        return () if parent is None else (*self.around(parent), parent)

    def bounds(self, loop: Loop) -> Bounds:
        """The bounds of a loop.

        Raises:
            IllegalTransform: a bound is no affine function of the nest's iterators.
        """
        lower = self._bound(loop, "lowerBoundMap", loop.op.lowerBoundOperands)
        upper = self._bound(loop, "upperBoundMap", loop.op.upperBoundOperands)
        return Bounds(lower, upper, ir.IntegerAttr(loop.op.attributes["step"]).value)

    def _bound(self, loop: Loop, name: str, values: Iterable[ir.Value]) -> tuple[ir.AffineExpr, ...]:
        map_ = without_symbols(ir.AffineMapAttr(loop.op.attributes[name]).value)
        if not map_.n_dims:
            return tuple(map_.results)
        frame = {self.loops[p].variable: ir.AffineExpr.get_dim(p) for p in self.around(loop.position)}
        operands = {d: _operand_expr(v, frame, loop.op, "a bound") for d, v in enumerate(values)}
        return tuple(substitute(e, operands, map_.n_dims) for e in map_.results)

    @cached_property
    def body(self) -> list[ir.Operation]:
        """The operations of the innermost loop but its terminator, if the nest is perfect.

        Raises:
            IllegalTransform: a loop holds more than just one other loop.
        """
        block = self.loops[-1].op.body
        return [o.operation for o in block.operations if o.operation.name != "affine.yield"]

    @property
    def is_perfect(self) -> bool:
        """Whether every loop but the innermost holds exactly one loop and nothing else."""
        chain = all(loop.parent == (loop.position - 1 if loop.position else None) for loop in self.loops)
        return chain and all(len(list(loop.op.body.operations)) == 2 for loop in self.loops[:-1])

    @property
    def is_rectangular(self) -> bool:
        """Whether every loop runs from 0 to a constant with step 1."""
        return all(_is_rectangular(loop) for loop in self.loops)

    @property
    def is_vectorised(self) -> bool:
        """Whether an operation of the nest computes or stores vectors."""
        ops = (op.operation for loop in self.loops for op in loop.op.body.operations)
        return any(isinstance(v.type, ir.VectorType) for op in ops for v in (*op.results, *op.operands))

    @property
    def points(self) -> int:
        """Number of points of a rectangular nest's iteration space."""
        return math.prod(loop.extent or 0 for loop in self.loops)

    @property
    def stores(self) -> tuple[Access, ...]:
        return tuple(a for a in self.accesses if a.kind == "store")

    @property
    def loads(self) -> tuple[Access, ...]:
        return tuple(a for a in self.accesses if a.kind == "load")


def functions(module: ir.Operation) -> list[func.FuncOp]:
    """The functions of a module that have a body."""
    return [f for f in module.regions[0].blocks[0].operations if isinstance(f, func.FuncOp) and not f.is_external]


def nests(module: ir.Operation) -> list[Nest]:
    """All nests of all functions, in program order.

    A view does not keep its module alive: the caller holds the `ir.Module` for as long as it uses the nests.
    """
    with module.context:
        return [view_nest(root) for root in nest_roots(module)]


class NestsByLayer(Mapping[str, list[Nest]]):
    """Layer -> its nests in program order, the layers in the order of their first ones.

    A layer's nests are viewed when they are asked for: it takes long to view all of a network. The caller holds the
    `ir.Module` for as long.

    Args:
        module: the module.
    """

    def __init__(self, module: ir.Operation) -> None:
        self._context = module.context
        self._roots: dict[str, list[affine.AffineForOp]] = {}
        self._viewed: dict[str, list[Nest]] = {}
        for root in nest_roots(module):
            self._roots.setdefault(marks.get_text(root, marks.LAYER), []).append(root)

    def __getitem__(self, layer: str) -> list[Nest]:
        if layer not in self._viewed:
            with self._context:
                self._viewed[layer] = [view_nest(root) for root in self._roots[layer]]
        return self._viewed[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._roots)

    def __len__(self) -> int:
        return len(self._roots)


def nest_roots(module: ir.Operation) -> list[affine.AffineForOp]:
    """The outermost loops of all nests, in program order; cheaper than viewing them."""
    return [root for function in functions(module) for root in function_roots(function)]


def function_roots(function: func.FuncOp) -> list[affine.AffineForOp]:
    """The outermost loops of one function's nests, in program order."""
    return [op for op in function.entry_block.operations if isinstance(op, affine.AffineForOp)]


def view_nest(root: affine.AffineForOp, memref: ir.Value | None = None, *, guarded: bool = False) -> Nest:
    """The view of one nest; wants its context to be entered.

    Args:
        root: its outermost loop.
        memref: where given, the accesses of all others are left out, which saves much where bodies are unrolled.
        guarded: whether to look into `affine.if`. Transformations, which do not know what to do with one, do not.

    Raises:
        IllegalTransform: an index that is no affine function of the nest's iterators.
    """
    view = _View(memref, guarded)
    view.collect(root, None, (), {}, ())
    return Nest(root, tuple(view.loops), tuple(view.accesses), tuple(view.guards))


def divisors(extent: int | None, candidates: Sequence[int]) -> list[int]:
    """Those of `candidates` that divide a constant extent and are smaller than it."""
    return [f for f in candidates if extent is not None and f < extent and extent % f == 0]


def walk_loops(root: affine.AffineForOp) -> Iterator[affine.AffineForOp]:
    """The loops of a nest, outermost first, in program order."""
    yield root
    for op in root.body.operations:
        if isinstance(op, affine.AffineForOp):
            yield from walk_loops(op)


def constant_extent(op: affine.AffineForOp) -> int | None:
    """Number of iterations of a loop whose bounds are constants, else None."""
    attributes = op.attributes
    lower, upper = attributes["lowerBoundMap"].value.results, attributes["upperBoundMap"].value.results
    if len(lower) != 1 or len(upper) != 1:
        return None
    low, high = lower[0].maybe_downcast(), upper[0].maybe_downcast()
    if type(low) is not ir.AffineConstantExpr or type(high) is not ir.AffineConstantExpr:
        return None
    return max(0, -(-(high.value - low.value) // attributes["step"].value))


class _View:
    """Collects the loops and accesses of a nest."""

    def __init__(self, memref: ir.Value | None, guarded: bool) -> None:
        self._only = memref
        self._guarded = guarded
        self.loops: list[Loop] = []
        self.accesses: list[Access] = []
        self.guards: list[Guard] = []
        # The expressions of each map on each list of operands: the copies of an unrolled body share many.
        self._exprs: dict[tuple[ir.Attribute | ir.Value, ...], tuple[ir.AffineExpr, ...]] = {}

    def collect(
        self, op: affine.AffineForOp, parent: int | None, around: tuple[int, ...], frame: _Frame, guards: _Guards
    ) -> None:
        position = len(self.loops)
        name = marks.get_text(op, marks.ITER, f"i{position}")
        self.loops.append(Loop(op, name, position, len(around), constant_extent(op), parent))
        body = op.body
        frame = {**frame, body.arguments[0]: ir.AffineExpr.get_dim(position)}
        self._block(body, (*around, position), frame, guards)

    def _block(self, block: ir.Block, around: tuple[int, ...], frame: _Frame, guards: _Guards) -> None:
        for inner in block.operations:
            if isinstance(inner, _ACCESSES):
                self._access(inner, around, frame, guards)
            elif isinstance(inner, affine.AffineForOp):
                self.collect(inner, around[-1], around, frame, guards)
            elif self._guarded and isinstance(inner, affine.AffineIfOp):
                for region, branch in zip(inner.operation.regions, _branches(inner, frame), strict=True):
                    self.guards.append(branch)
                    for each in region.blocks:
                        self._block(each, around, frame, (*guards, branch))

    def _access(self, op: LoadOp | StoreOp, around: tuple[int, ...], frame: _Frame, guards: _Guards) -> None:
        is_load = isinstance(op, _LOADS)
        operation = op.operation
        if self._only is not None and operation.operands[0 if is_load else 1] != self._only:
            return
        values = list(operation.operands)
        memref, indices = (values[0], values[1:]) if is_load else (values[1], values[2:])
        map_ = operation.attributes["map"]
        key = (map_, *indices)
        exprs = self._exprs.get(key)
        if exprs is None:
            exprs = self._exprs[key] = _composed(map_.value, indices, frame, op)
        lanes = _lanes(op, operation.results[0] if is_load else values[0])
        kind: Literal["load", "store"] = "load" if is_load else "store"
        self.accesses.append(Access(operation, kind, memref, exprs, around, len(self.accesses), lanes, guards))


def _branches(op: affine.AffineIfOp, frame: _Frame) -> tuple[Guard, Guard]:
    """Both branches of an `affine.if`; the second may hold nothing."""
    sides = constraints(op.operation.attributes["condition"])
    found = tuple((_composed(map_, op.operation.operands, frame, op)[0], equality) for map_, equality in sides)
    return Guard(op.operation, False, found), Guard(op.operation, True, found)


def _composed(
    map_: ir.AffineMap, operands: Iterable[ir.Value], frame: _Frame, op: ir.OpView
) -> tuple[ir.AffineExpr, ...]:
    """The results of a map on these operands as expressions over the nest's loops."""
    map_ = without_symbols(map_)
    exprs = {d: frame.get(v) or _operand_expr(v, frame, op) for d, v in enumerate(operands)}
    return tuple(substitute(e, exprs, map_.n_dims) for e in map_.results)


def _lanes(op: LoadOp | StoreOp, value: ir.Value) -> int:
    type_ = value.type
    if not isinstance(type_, ir.VectorType):
        return 1
    if type_.rank != 1:
        reason = f"vectors of {type_.rank} dimensions are not supported, only of one"
        raise IllegalTransform(f"{op.operation.name} at {location_text(op.operation.location)}", reason)
    return type_.shape[0]


def _operand_expr(value: ir.Value, frame: _Frame, op: ir.OpView, what: str = "an index") -> ir.AffineExpr:
    """An index operand as an expression over the nest's loops; the frame holds the iterators of those around it."""
    known = frame.get(value)
    if known is not None:
        return known
    owner = value.owner
    if isinstance(owner, ir.Operation | ir.OpView):
        definition = owner.opview if isinstance(owner, ir.Operation) else owner
        if isinstance(definition, affine.AffineApplyOp):
            map_ = without_symbols(ir.AffineMapAttr(definition.attributes["map"]).value)
            operands = {d: _operand_expr(v, frame, op, what) for d, v in enumerate(definition.operands)}
            return substitute(map_.results[0], operands, map_.n_dims)
        if definition.operation.name == "arith.constant":
            return ir.AffineExpr.get_constant(ir.IntegerAttr(definition.attributes["value"]).value)
    where = f"{op.operation.name} at {location_text(op.operation.location)}"
    raise IllegalTransform(where, f"{what} is no affine function of the iterators")


def _is_rectangular(loop: Loop) -> bool:
    low = ir.AffineMapAttr(loop.op.attributes["lowerBoundMap"]).value
    starts_at_0 = len(low.results) == 1 and low.results[0] == ir.AffineExpr.get_constant(0)
    return loop.extent is not None and starts_at_0 and ir.IntegerAttr(loop.op.attributes["step"]).value == 1
