"""Which step of a program writes what another one reads, and how much memory is touched in between.

A step is an operation of the function's body that touches memory: a nest, mostly. Its caller takes part in two ways: it
writes the inputs before the first step, and reads the outputs after the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch_mlir import ir
from torch_mlir.dialects import affine, func

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.dataflow import effects, parameter_work
from loopmorph.passes.analysis.memory.footprint import Footprint, footprints, united, whole_footprint
from loopmorph.passes.analysis.memory.memrefs import element_bytes
from loopmorph.passes.nest import Nest, view_nest

Touched = Mapping[ir.Value, Footprint]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a function's body that touches memory, or its caller.

    Attributes:
        nest: the nest that it is; None for another operation and for the caller.
        layer: the layer that it computes for, "" where it is not marked.
        argument: the input that the caller writes, or the output that it reads; None for an operation.
        reads: what it reads, but for what depends on parameters alone.
        writes: what it writes.
        constants: what it reads that depends on parameters alone.
    """

    nest: Nest | None
    layer: str
    argument: ir.Value | None
    reads: Touched
    writes: Touched
    constants: Touched

    @cached_property
    def touched(self) -> dict[ir.Value, Footprint]:
        """All that it reads or writes."""
        return merged([self.reads, self.writes, self.constants])


@dataclass(frozen=True, eq=False)
class Flow:
    """Elements of a memref that one step writes and a later one reads, none in between having written all of them.

    Attributes:
        memref: the memref.
        write: number of the step that writes.
        read: number of the step that reads.
        elements: those that the one writes and the other reads.
    """

    memref: ir.Value
    write: int
    read: int
    elements: Footprint


def merged(parts: Iterable[Touched]) -> dict[ir.Value, Footprint]:
    """What any of these touch of each memref."""
    found: dict[ir.Value, list[Footprint]] = {}
    for part in parts:
        for memref, footprint in part.items():
            found.setdefault(memref, []).append(footprint)
    return {memref: united(footprints) for memref, footprints in found.items()}


def total_bytes(touched: Touched) -> int:
    """Distinct bytes of it."""
    return sum(footprint_bytes(memref, footprint) for memref, footprint in touched.items())


def footprint_bytes(memref: ir.Value, footprint: Footprint) -> int:
    """Bytes that some elements of a memref take."""
    return footprint.elements * element_bytes(ir.MemRefType(memref.type).element_type)


def steps_of(function: func.FuncOp) -> list[Step]:
    """The steps of each call of a function, in program order, the caller's first and last ones among them.

    Steps that depend on parameters alone are left out: they are done once, ahead of all calls.
    """
    work = parameter_work(function)
    ahead, constant = set(work.ops), set(work.memrefs)
    arguments = zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    constant.update(argument for argument, attributes in arguments if marks.PACKED in attributes)
    body = [op.operation for op in function.entry_block.operations]
    steps = [_step(op, constant) for op in body if op not in ahead]
    steps = [step for step in steps if step.touched]
    return [*_inputs(function, steps), *steps, *_outputs(function, steps)]


def flows(steps: Sequence[Step]) -> list[Flow]:
    """What each step reads of what earlier ones wrote, in the order of the reads.

    A step that writes again all that is read hides those before it; where several write a part each, all count.
    """
    writers: dict[ir.Value, list[int]] = {}
    found = []
    for number, step in enumerate(steps):
        for memref, wanted in step.reads.items():
            for writer in reversed(writers.get(memref, [])):
                shared = steps[writer].writes[memref] & wanted
                if shared.elements:
                    found.append(Flow(memref, writer, number, shared))
                if shared.elements == wanted.elements:
                    break
        for memref in step.writes:
            writers.setdefault(memref, []).append(number)
    return found


def reuse_distances(steps: Sequence[Step], of: Sequence[Flow]) -> list[int]:
    """For each flow the distinct bytes that are touched from its write to its read.

    These are what its step wrote of its memref, and all that the steps in between touch of others.
    """
    order = sorted(range(len(of)), key=lambda k: (of[k].write, of[k].read))
    distances = [0] * len(of)
    begun, upto, between = -1, -1, _Between()
    for k in order:
        flow = of[k]
        if flow.write != begun:
            begun, upto, between = flow.write, flow.write + 1, _Between()
        for step in steps[upto : flow.read]:
            between.add(step.touched)
        upto = max(upto, flow.read)
        own = footprint_bytes(flow.memref, steps[flow.write].writes[flow.memref])
        distances[k] = own + between.bytes_but(flow.memref)
    return distances


class _Between:
    """What some steps have touched, distinct bytes."""

    def __init__(self) -> None:
        self._seen: dict[ir.Value, Footprint] = {}
        self._bytes: dict[ir.Value, int] = {}
        self._total = 0

    def add(self, touched: Touched) -> None:
        for memref, footprint in touched.items():
            known = self._seen.get(memref)
            footprint = footprint if known is None else known | footprint
            self._seen[memref] = footprint
            self._total -= self._bytes.get(memref, 0)
            self._bytes[memref] = footprint_bytes(memref, footprint)
            self._total += self._bytes[memref]

    def bytes_but(self, memref: ir.Value) -> int:
        return self._total - self._bytes.get(memref, 0)


def _step(op: ir.Operation, constant: set[ir.Value]) -> Step:
    if isinstance(op.opview, affine.AffineForOp):
        nest: Nest | None = view_nest(op.opview)
    else:
        nest = None
    found = effects(op)
    loads = footprints(nest, "load") if nest else {}
    stores = footprints(nest, "store") if nest else {}
    reads = {memref: loads.get(memref) or whole_footprint(memref) for memref in found.reads}
    writes = {memref: stores.get(memref) or whole_footprint(memref) for memref in found.writes}
    constants = {memref: part for memref, part in reads.items() if memref in constant}
    others = {memref: part for memref, part in reads.items() if memref not in constant}
    return Step(nest, marks.get_text(op, marks.LAYER), None, others, writes, constants)


def _inputs(function: func.FuncOp, steps: Sequence[Step]) -> list[Step]:
    read = {memref for step in steps for memref in step.reads}
    given = [(a, m) for a, m in _data_arguments(function) if a in read and marks.OUTPUT not in m]
    return [Step(None, "", a, {}, {a: whole_footprint(a)}, {}) for a, _ in given]


def _outputs(function: func.FuncOp, steps: Sequence[Step]) -> list[Step]:
    written = {memref for step in steps for memref in step.writes}
    taken = [(a, m) for a, m in _data_arguments(function) if a in written and marks.SCRATCH not in m]
    return [Step(None, "", a, {a: whole_footprint(a)}, {}, {}) for a, _ in taken]


def _data_arguments(function: func.FuncOp) -> list[tuple[ir.Value, dict[str, ir.Attribute]]]:
    """The arguments that hold neither parameters nor what was made of them."""
    pairs = zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
    known = (marks.PARAM, marks.PACKED)
    memrefs = [(a, m) for a, m in pairs if isinstance(a.type, ir.MemRefType)]
    return [(a, m) for a, m in memrefs if not any(mark in m for mark in known)]
