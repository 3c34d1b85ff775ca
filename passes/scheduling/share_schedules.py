"""One schedule for all layers whose nests are equal: the steps run on the first layer, the others get copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.address import find_root
from loopmorph.passes.history import Step, history, record
from loopmorph.passes.marks import record_steps, recorded_steps
from loopmorph.passes.nest import Nest, view_nest
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.scheduling.layer_group import LayerGroup, is_movable, layer_group, move_accesses
from loopmorph.passes.scheduling.layer_module import LayerModule


@dataclass(frozen=True)
class _Template:
    """A layer's nests after the steps that depend on nothing else than on these nests.

    Attributes:
        group: the layer's nests as they were; only the names in it are valid any more.
        locations: the locations of its operations.
        nests: what became of them.
        applied: the steps that led there.
        later: the steps after those.
    """

    group: LayerGroup
    locations: tuple[ir.Location, ...]
    nests: LayerModule
    applied: tuple[Step, ...]
    later: tuple[Step, ...]


class SharedSchedules:
    """Schedules the layers of a module: each in a small module of its own, equal ones by copying.

    Layers are equal whose nests (see `LayerGroup`) differ in the names of layer and nodes, in the memrefs outside and
    in the memref and the part of it to which they write only (the layers of a dense block). The nests, marks and
    recorded steps are the same as if every layer's steps had run.

        affine.for ... %x ... %y {morph.layer = "a"}            the schedule of "a" on %x and %y
        affine.for ... %z ... %u {morph.layer = "b"}    ->      its copy on %z and %u, marked "b"

    Requires of the steps of a layer, up to the first `morph-fuse-epilogue`, that they look at and change nothing but
    the layer's group, or else pack a memref from outside; from there on each layer's steps run one by one, since they
    depend on the nests around.
    """

    def __init__(
        self,
        module: ir.Operation,
        apply: Callable[[ir.Operation, Step], None],
        apply_to: Callable[[Nest, Step], object | None],
    ) -> None:
        """Wants the module's context to be entered.

        Args:
            module: the module to schedule.
            apply: applies one step to a module and records it; may leave a step out that is not possible.
            apply_to: likewise, given the step's nest, but records nothing; gives None where it leaves the step out.
        """
        self._module = module
        self._apply, self._apply_to = apply, apply_to
        self._chosen = _choices(module)
        self._templates: dict[str, _Template] = {}

    def schedule(self, layer: str, main: affine.AffineForOp, steps: Callable[[ir.Operation], Iterable[Step]]) -> None:
        """Schedules one layer.

        Args:
            layer: qualified name of the layer.
            main: the outermost loop of its main nest.
            steps: its steps in a module that holds its nests. Each is applied before the next is asked for; from the
                first one that goes beyond the group on, steps do not depend on what those before them did. Not asked
                for where an equal layer's can be copied.
        """
        group = layer_group(layer, main.operation)
        if group is None:
            for step in steps(self._module):
                self._apply(self._module, step)
        elif group.text in self._templates and _fits(self._templates[group.text], group):
            self._copy(self._templates[group.text], group)
        else:
            self._run(group, steps)

    def _run(self, group: LayerGroup, steps: Callable[[ir.Operation], Iterable[Step]]) -> None:
        locations = tuple(op.location for op in group.ops)
        chosen = self._chosen.get(group.layer, [])
        nests = LayerModule.taken(group, chosen)
        applied: list[Step] = []
        later: list[Step] = []
        try:
            remaining = iter(steps(nests.operation))
            for step in remaining:
                if not step.stays_within(nests.operation, nests.stand_ins(group)):
                    later = [step, *remaining]
                    break
                known = len(recorded_steps(nests.operation))
                self._apply(nests.operation, step)
                if len(recorded_steps(nests.operation)) > known:
                    applied.append(step)
            if applied and later and all(step.scope == "neighbours" for step in later):
                self._templates[group.text] = _Template(group, locations, nests.copy(), tuple(applied), tuple(later))
        finally:
            roots = nests.put_back(group)
        record_steps(self._module, *recorded_steps(nests.operation)[len(chosen) :])
        self._go_on(later, roots)

    def _copy(self, template: _Template, group: LayerGroup) -> None:
        """Puts a copy of the template in the place of an equal group, records its steps and applies the later ones."""
        nests = template.nests.copy()
        names = _names(template.group, group)
        places = list(zip(template.locations, (op.location for op in group.ops), strict=True))
        for run in nests.contents():
            for op in run:
                _rename(op, names)
                _relocate(op, places)
        if group.place is not None and any(_distance(template, group)):
            move_accesses(_results(nests, group), _distance(template, group))
        roots = nests.put_back(group)
        for op in reversed(group.ops):
            op.erase()
        record(self._module, *(step.on(group.layer) for step in template.applied))
        self._go_on([step.on(group.layer) for step in template.later], roots)

    def _go_on(self, later: Iterable[Step], roots: Sequence[affine.AffineForOp]) -> None:
        """Applies the steps that go beyond a group, given the nests that are left of it."""
        known = list(roots)
        for step in later:
            root = None if step.address is None else find_root(known, step.address)
            if root is None:
                self._apply(self._module, step)
                known.clear()
            elif self._apply_to(view_nest(root), step) is not None:
                record(self._module, step)
                known.clear()  # it may have erased some


def _results(nests: LayerModule, group: LayerGroup) -> ir.Value:
    """What stands for the memref of a group's results."""
    assert group.place is not None
    return nests.stand_ins(group)[group.outside.index(group.place.memref)]


def _distance(template: _Template, group: LayerGroup) -> tuple[int, ...]:
    """How far from the template's results those of an equal group lie."""
    places = (template.group.place, group.place)
    old, new = (place.offset if place is not None else () for place in places)
    return tuple(b - a for a, b in zip(old, new, strict=True))


def _fits(template: _Template, group: LayerGroup) -> bool:
    """Whether copies of the template's nests can store their results where an equal group does."""
    if group.place is None:
        return True
    results = _results(template.nests, group)
    stays = not any(_distance(template, group)) and results.type == group.place.memref.type
    return stays or is_movable(results)


def _choices(module: ir.Operation) -> dict[str, list[Choose]]:
    """The recorded `morph-choose` of each layer."""
    found: dict[str, list[Choose]] = {}
    for step in history(module):
        if isinstance(step, Choose):
            found.setdefault(step.layer, []).append(step)
    return found


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
