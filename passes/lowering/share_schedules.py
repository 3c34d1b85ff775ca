"""One schedule for all layers whose nests are equal: the steps run on the first layer, the others get copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.base import SCHEDULE_ATTRIBUTE, Transformation, record
from loopmorph.passes.loop.fuse_epilogue import FuseEpilogue
from loopmorph.passes.lowering.layer_group import LayerGroup, layer_group
from loopmorph.passes.nest import find_nest

Step: TypeAlias = Transformation[Any]


@dataclass(frozen=True)
class _Template:
    """A layer's nests after the steps that depend on nothing else than on these nests.

    Attributes:
        group: the layer's nests as they were; only the names in it are valid any more.
        locations: the locations of its operations.
        arguments: what stands for each value from outside.
        runs: the operations that took the place of each run.
        applied: the steps that led there.
        later: the steps after those.
    """

    group: LayerGroup
    locations: tuple[ir.Location, ...]
    arguments: tuple[ir.Value, ...]
    runs: tuple[tuple[ir.Operation, ...], ...]
    applied: tuple[Step, ...]
    later: tuple[Step, ...]


class SharedSchedules:
    """Schedules the layers of a module, equal ones by copying.

    Layers are equal whose nests (see `LayerGroup`) differ in the names of layer and nodes and in the memrefs outside
    only. The nests, marks and recorded steps are the same as if every layer's steps had run.

        affine.for ... %x ... %y {morph.layer = "a"}            the schedule of "a" on %x and %y
        affine.for ... %z ... %u {morph.layer = "b"}    ->      its copy on %z and %u, marked "b"

    Requires of the steps of a layer, up to the first `morph-fuse-epilogue`, that they look at and change nothing but
    the layer's group; from there on each layer's steps run one by one, since they depend on the nests around.
    """

    def __init__(self, module: ir.Operation, apply: Callable[[ir.Operation, Step], None]) -> None:
        """Wants the module's context to be entered.

        Args:
            module: the module to schedule.
            apply: applies one step to the module; may leave a step out that is not possible.
        """
        self._module = module
        self._apply = apply
        self._templates: dict[str, _Template] = {}
        self._store = ir.Module.create(ir.Location.unknown())  # keeps the templates out of the program

    def schedule(self, layer: str, steps: Iterable[Step]) -> None:
        """Schedules one layer.

        Args:
            layer: qualified name of the layer.
            steps: its steps; each is applied before the next is asked for. Not asked for where an equal layer's can
                be copied.
        """
        group = layer_group(layer, find_nest(self._module, layer).root.operation)
        if group is None:
            for step in steps:
                self._apply(self._module, step)
        elif group.text in self._templates:
            self._copy(self._templates[group.text], group)
        else:
            self._run(group, steps)

    def _run(self, group: LayerGroup, steps: Iterable[Step]) -> None:
        locations = tuple(op.location for op in group.ops)
        applied: list[Step] = []
        later: list[Step] = []
        kept = None
        for step in steps:
            if isinstance(step, FuseEpilogue) and not later:
                kept = self._keep(group)
            known = _recorded(self._module)
            self._apply(self._module, step)
            if isinstance(step, FuseEpilogue) or later:
                later.append(step)
            elif _recorded(self._module) > known:
                applied.append(step)
        if kept is not None and applied and all(isinstance(step, FuseEpilogue) for step in later):
            self._templates[group.text] = _Template(group, locations, *kept, tuple(applied), tuple(later))

    def _keep(self, group: LayerGroup) -> tuple[tuple[ir.Value, ...], tuple[tuple[ir.Operation, ...], ...]] | None:
        """Copies what took the place of a group: stand-ins for the values from outside, and the operations, by run.

        None where they use other values from outside than the group did.
        """
        types = [v.type for v in group.outside]
        with ir.Location.unknown(), ir.InsertionPoint(self._store.body):
            holder = func.FuncOp(f"layer.{len(self._templates)}", (types, []))
            block = holder.add_entry_block()
            with ir.InsertionPoint(block):
                point = ir.InsertionPoint(func.ReturnOp([]))
        values: dict[ir.Value, ir.Value] = dict(zip(group.outside, block.arguments, strict=True))
        runs = []
        for run in _contents(group):
            known = {*values, *(result for op in run for result in op.results)}
            if any(v not in known for op in run for v in _used_from_outside(op)):
                holder.operation.erase()
                return None
            runs.append(tuple(_transplant(op, point, values) for op in run))
        return tuple(block.arguments), tuple(runs)

    def _copy(self, template: _Template, group: LayerGroup) -> None:
        """Puts a copy of the template in the place of an equal group, records its steps and applies the later ones."""
        values = dict(zip(template.arguments, group.outside, strict=True))
        names = _names(template.group, group)
        places = list(zip(template.locations, (op.location for op in group.ops), strict=True))
        for ops, run in zip(template.runs, group.runs, strict=True):
            for op in ops:
                copy = _transplant(op, ir.InsertionPoint(run.after), values)
                _rename(copy, names)
                _relocate(copy, places)
        for op in reversed(group.ops):
            op.erase()
        for step in template.applied:
            record(self._module, str(_for_layer(step, template.group.layer, group.layer)))
        for step in template.later:
            self._apply(self._module, _for_layer(step, template.group.layer, group.layer))


def _contents(group: LayerGroup) -> list[list[ir.Operation]]:
    """The operations that stand where the group's runs stood."""
    body = [op.operation for op in group.runs[0].after.block.operations]
    found = []
    for run in group.runs:
        first = 0 if run.before is None else body.index(run.before) + 1
        found.append(body[first : body.index(run.after)])
    return found


def _used_from_outside(op: ir.Operation) -> set[ir.Value]:
    """The values that an operation and all that it holds use and do not define."""
    used: set[ir.Value] = set()
    defined: set[ir.Value] = set()

    def visit(each: ir.Operation) -> ir.WalkResult:
        used.update(each.operands)
        defined.update(each.results)
        for region in each.regions:
            for block in region.blocks:
                defined.update(block.arguments)
        return ir.WalkResult.ADVANCE

    op.walk(visit)
    return used - defined


def _transplant(op: ir.Operation, point: ir.InsertionPoint, values: dict[ir.Value, ir.Value]) -> ir.Operation:
    """A copy of an operation on other values; its results are added to these."""
    copy = op.clone(point).operation

    def visit(each: ir.Operation) -> ir.WalkResult:
        for k, value in enumerate(each.operands):
            if value in values:
                each.operands[k] = values[value]
        return ir.WalkResult.ADVANCE

    copy.walk(visit)
    values.update(zip(op.results, copy.results, strict=True))
    return copy


def _names(group: LayerGroup, other: LayerGroup) -> dict[str, dict[str, str]]:
    """For the marks that name layer and node: from the names in one group to those in the other."""
    nodes = dict(zip(group.nodes, other.nodes, strict=True))
    return {marks.LAYER: {group.layer: other.layer}, marks.NODE: nodes}


def _rename(op: ir.Operation, names: Mapping[str, Mapping[str, str]]) -> None:
    for mark, new in names.items():
        if mark in op.attributes:
            op.attributes[mark] = ir.StringAttr.get(new[marks.get_text(op, mark)])


def _relocate(op: ir.Operation, places: list[tuple[ir.Location, ir.Location]]) -> None:
    """Replaces the locations of an operation and all that it holds."""

    def moved(location: ir.Location) -> ir.Location:
        return next((new for old, new in places if old == location), location)

    def visit(each: ir.Operation) -> ir.WalkResult:
        each.location = moved(each.location)
        for region in each.regions:
            for block in region.blocks:
                for argument in block.arguments:
                    argument.set_location(moved(argument.location))
        return ir.WalkResult.ADVANCE

    op.walk(visit)


def _for_layer(step: Step, old: str, new: str) -> Step:
    """The step for another layer; addresses keep their role (`old#pack` becomes `new#pack`)."""
    fields: dict[str, Any] = {"layer": new + vars(step)["layer"].removeprefix(old)}
    return dataclasses.replace(step, **fields)


def _recorded(module: ir.Operation) -> int:
    """How many steps the module records."""
    return len(ir.ArrayAttr(module.attributes[SCHEDULE_ATTRIBUTE])) if SCHEDULE_ATTRIBUTE in module.attributes else 0
