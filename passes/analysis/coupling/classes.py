"""The classes of tied dimensions of a whole program, and what pins each of them.

Two dimensions are in one class when an index of one fixes an index of the other over its whole range: an iterator and
the axis that it indexes, the digits of an axis, a flattened map. A slice of a dimension (of a concatenation, of a
padded map) is in a class of its own, which names the larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.affine_expr import used_dims
from loopmorph.passes.analysis.coupling.disjoint_sets import DisjointSets
from loopmorph.passes.analysis.coupling.pins import pin_of_memref, pin_of_nest
from loopmorph.passes.analysis.coupling.program_accesses import AxisKey, ProgramAccesses
from loopmorph.passes.analysis.coupling.sums import pin_of_sum
from loopmorph.passes.analysis.coupling.ties import span
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.nest import Access, Nest
from loopmorph.passes.nest_text import index_text

_Member: TypeAlias = ir.Operation | AxisKey  # a loop, or an axis of a memref


@dataclass(frozen=True)
class TiedIterators:
    """The iterators of one nest that run over a dimension; as text `conv1 co`, `conv1#init c`, `conv2 g x ci`.

    Attributes:
        layer: the nest's layer.
        role: its role for that (see `loopmorph.passes.marks`).
        iterators: their names, several where they make up the dimension together.
    """

    layer: str
    role: str
    iterators: tuple[str, ...]

    def __str__(self) -> str:
        where = self.layer if self.role == marks.MAIN else f"{self.layer}#{self.role}"
        return f"{where} {' x '.join(self.iterators)}".strip()


@dataclass(frozen=True)
class DimensionClass:
    """One class of tied dimensions.

    Attributes:
        extents: the extents that its axes and nests give the dimension, ascending; several where it is flattened.
        members: the iterators that run over it, each once, in program order.
        parameters: `name[axis]` of each parameter.
        slices: (number of another class, begin, end): it is that range of the other.
        windows: `layer 'index'` of each access that moves along it and another iterator: a window, a constant index.
        pins: why else it has to keep its extent; it need not where both are empty.
    """

    extents: tuple[int, ...]
    members: tuple[TiedIterators, ...]
    parameters: tuple[str, ...]
    slices: tuple[tuple[int, int, int], ...]
    windows: tuple[str, ...]
    pins: tuple[str, ...]

    @property
    def iterators(self) -> tuple[str, ...]:
        """Its members as texts."""
        return tuple(map(str, self.members))


def dimension_classes(module: ir.Operation) -> list[DimensionClass]:
    """The classes of all dimensions of a program, in the order of their first nests; extents of 1 are left out."""
    with module.context:
        return _Classes(ProgramAccesses(module)).collect()


@dataclass
class _Group:
    extents: set[int] = field(default_factory=set)
    members: dict[TiedIterators, None] = field(default_factory=dict)
    parameters: dict[str, None] = field(default_factory=dict)
    slices: dict[tuple[_Member, int, int], None] = field(default_factory=dict)
    windows: dict[str, None] = field(default_factory=dict)
    pins: dict[str, None] = field(default_factory=dict)


class _Classes:
    """Collects what is tied to each loop and axis."""

    def __init__(self, program: ProgramAccesses) -> None:
        self.program = program
        self.sets: DisjointSets[_Member] = DisjointSets()
        self.groups: dict[_Member, _Group] = {}

    def collect(self) -> list[DimensionClass]:
        for nest, access, axis in self._indices():
            self._join(nest, access, axis)
        for nest in self.program.nests:
            self._note_loops(nest)
        for nest, access, axis in self._indices():
            self._note_axis(nest, access, axis)
        numbers = {key: number for number, key in enumerate(self.groups)}
        return [self._finished(group, numbers) for group in self.groups.values()]

    def _indices(self) -> list[tuple[Nest, Access, int]]:
        """All indices of axes with more than one element."""
        nests = self.program.nests
        every = [(n, access, axis) for n in nests for access in n.accesses for axis in range(len(access.exprs))]
        return [(nest, access, axis) for nest, access, axis in every if _extent(access, axis) != 1]

    def _join(self, nest: Nest, access: Access, axis: int) -> None:
        relation = self.program.tie(nest, access, axis)
        members: list[_Member] = [nest.loops[p].op.operation for p in _moving(nest, relation.loops)]
        if relation.kind in ("digits", "leading"):
            members.append((access.memref, axis))
        elif relation.kind != "slice":
            return
        for member in members[1:]:
            self.sets.join(members[0], member)

    def _group(self, member: _Member) -> _Group:
        return self.groups.setdefault(self.sets.find(member), _Group())

    def _note_loops(self, nest: Nest) -> None:
        together: dict[_Member, list[int]] = {}
        for position in _moving(nest, range(len(nest.loops))):
            together.setdefault(self.sets.find(nest.loops[position].op.operation), []).append(position)
        for key, positions in together.items():
            group = self._group(key)
            group.extents.add(span(nest, positions))
            group.members[TiedIterators(nest.layer, nest.role, tuple(nest.loops[p].iterator for p in positions))] = None
            pins = [pin_of_nest(nest), *(pin_of_sum(nest, nest.loops[p], self.program.accesses) for p in positions)]
            group.pins.update({pin: None for pin in pins if pin is not None})

    def _note_axis(self, nest: Nest, access: Access, axis: int) -> None:
        memref = access.memref
        group = self._group((memref, axis))
        group.extents.add(_extent(access, axis))
        arguments = marks.memref_marks(memref)
        if marks.PARAM in arguments:
            group.parameters[f"{ir.StringAttr(arguments[marks.PARAM]).value}[{axis}]"] = None
        pin = pin_of_memref(memref, self.program.accesses, nest)
        if pin is not None:
            group.pins[pin] = None
        relation = self.program.tie(nest, access, axis)
        if relation.kind == "slice":
            end = relation.offset + span(nest, relation.loops)
            for position in _moving(nest, relation.loops)[:1]:
                part = self._group(nest.loops[position].op.operation)
                part.slices[self.sets.find((memref, axis)), relation.offset, end] = None
        elif relation.kind == "other":
            text = f"{nest.layer} '{index_text(access.exprs[axis], nest.iterators)}'"
            group.windows[text] = None
            for position in _moving(nest, sorted(used_dims(access.exprs[axis]))):
                if not is_reduction(nest, position):  # that one may read a part of the window
                    self._group(nest.loops[position].op.operation).windows[text] = None

    def _finished(self, group: _Group, numbers: dict[_Member, int]) -> DimensionClass:
        slices = tuple((numbers[key], begin, end) for key, begin, end in group.slices)
        names = (tuple(group.members), tuple(group.parameters))
        return DimensionClass(tuple(sorted(group.extents)), *names, slices, tuple(group.windows), tuple(group.pins))


def _moving(nest: Nest, positions: Sequence[int]) -> list[int]:
    """Those of the loops that have more than one iteration."""
    return [p for p in positions if nest.loops[p].extent != 1]


def _extent(access: Access, axis: int) -> int:
    return ir.MemRefType(access.memref.type).shape[axis]
