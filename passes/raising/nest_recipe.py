"""A layer's nests as plain data: buffers and statements, no MLIR objects; what raising and execution start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from loopmorph.passes.raising.index_forms import Form, add, scale

BufferKind = Literal["input", "parameter", "temporary", "output"]


@dataclass(frozen=True)
class Buffer:
    """A memref.

    Attributes:
        kind: where its values come from: the layer's input, a parameter, or the layer's own nests ("output" is what
            others read of these).
        shape: its extents, row-major.
        name: qualified name of the parameter; "" for the other kinds.
    """

    kind: BufferKind
    shape: tuple[int, ...]
    name: str = ""

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one index to the next, per axis."""
        strides = [1] * len(self.shape)
        for axis in range(len(self.shape) - 2, -1, -1):
            strides[axis] = strides[axis + 1] * self.shape[axis + 1]
        return tuple(strides)


@dataclass(frozen=True)
class Load:
    """The element of buffer number `buffer` at `index`, one form per axis."""

    buffer: int
    index: tuple[Form, ...]

    def address(self, buffers: tuple[Buffer, ...]) -> Form:
        """The row-major position within the buffer."""
        strides = buffers[self.buffer].strides
        return add(*(scale(form, stride) for form, stride in zip(self.index, strides, strict=True)))


@dataclass(frozen=True)
class Constant:
    """A number."""

    value: float


@dataclass(frozen=True)
class Call:
    """A scalar operation by its MLIR name; `predicate` is that of `arith.cmpf`."""

    op: str
    args: tuple[Value, ...]
    predicate: str = ""


Value = Load | Constant | Call


@dataclass(frozen=True)
class Statement:
    """`target = value` at every point of a box of loops that satisfies the guards (each form is at least 0).

    `loops` names the loops, outermost first; `extents` are theirs in the same order.
    """

    loops: tuple[int, ...]
    extents: tuple[int, ...]
    target: Load
    value: Value
    guards: tuple[Form, ...] = ()
    role: str = ""

    @property
    def extent_of(self) -> dict[int, int]:
        """Loop -> extent."""
        return dict(zip(self.loops, self.extents, strict=True))


@dataclass(frozen=True)
class Recipe:
    """What a layer computes.

    Attributes:
        layer: its name.
        buffers: all memrefs that it touches.
        statements: its stores in program order; running one entirely before the next gives the nests' result.
        batch: extent of the example batch where the layer treats samples alike: axis 0 of every buffer in
            `batched` is indexed by one loop, that of `batch_loops`, and by nothing else. Else None.
        batched: the buffers whose axis 0 is the batch.
        batch_loops: for each statement its batch loop, None where it has none.
    """

    layer: str
    buffers: tuple[Buffer, ...]
    statements: tuple[Statement, ...]
    batch: int | None = None
    batched: frozenset[int] = frozenset()
    batch_loops: tuple[int | None, ...] = ()

    def numbers(self, kind: BufferKind) -> tuple[int, ...]:
        """The buffers of one kind."""
        return tuple(k for k, b in enumerate(self.buffers) if b.kind == kind)


def loads(value: Value) -> Iterator[Load]:
    """All loads in a value, left to right."""
    if isinstance(value, Load):
        yield value
    elif isinstance(value, Call):
        for arg in value.args:
            yield from loads(arg)


def map_loads(statement: Statement, change: Callable[[Load], Load]) -> Statement:
    """The statement with its target and every load changed."""

    def visit(value: Value) -> Value:
        if isinstance(value, Load):
            return change(value)
        return replace(value, args=tuple(visit(a) for a in value.args)) if isinstance(value, Call) else value

    return replace(statement, target=change(statement.target), value=visit(statement.value))


def flatten(value: Value, op: str) -> list[Value]:
    """The operands of a tree of one associative operation."""
    if isinstance(value, Call) and value.op == op:
        return [leaf for arg in value.args for leaf in flatten(arg, op)]
    return [value]


def summands(value: Value) -> list[Value]:
    """The terms of a tree of additions and subtractions; a subtracted one becomes `arith.negf` of it."""
    if isinstance(value, Call) and value.op == "arith.addf":
        return [term for arg in value.args for term in summands(arg)]
    if isinstance(value, Call) and value.op == "arith.subf":
        minus = [Call("arith.negf", (term,)) for term in summands(value.args[1])]
        return [*summands(value.args[0]), *minus]
    return [value]


Accumulation = Literal["sum", "max", "min"]


def accumulation(statement: Statement) -> tuple[Accumulation, list[Value]] | None:
    """How a statement accumulates into its target, and what it adds (or compares) at each point; None: it does not.

    Of truth values "max" is whether any holds, "min" whether all do.
    """
    kinds: tuple[tuple[Accumulation, list[Value]], ...] = (
        ("sum", summands(statement.value)),
        ("max", flatten(statement.value, "arith.maximumf")),
        ("min", flatten(statement.value, "arith.minimumf")),
        ("max", flatten(statement.value, "arith.ori")),
        ("min", flatten(statement.value, "arith.andi")),
    )
    for kind, terms in kinds:
        others = [t for t in terms if t != statement.target]
        buffers = {load.buffer for term in others for load in loads(term)}
        if others and len(others) == len(terms) - 1 and statement.target.buffer not in buffers:
            return kind, others
    return None
