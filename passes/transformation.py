"""What a transformation is: a pass that rewrites one layer's nests, and what the rest of the house asks of it.

The same object is the pass `morph-NAME{...}` of a textual pipeline and the operation `morph.NAME` of a schedule. It
first analyses, changing nothing, and then builds from the plan; so none is ever half applied.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import Address, find_nest, root_at
from loopmorph.passes.base import Pass
from loopmorph.passes.building.name_nests import name_nests
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.explain import explain
from loopmorph.passes.nest import Nest
from loopmorph.passes.outdated_choices import chosen_nests, drop_outdated

Kind = Literal["loop", "neural"]
Scope = Literal["nest", "neighbours", "network"]
PlanT = TypeVar("PlanT")


class Transformation(Pass, Generic[PlanT]):
    """A pass that rewrites one layer's nests, in two steps: analyse, then rewrite.

    What was applied is recorded, in order, in the module's `morph.schedule` attribute (see `passes/history.py`).

    Attributes:
        kind: which of the two kinds of legality judges it: "loop" keeps the computed values, "neural" changes the
            network.
        is_schedule: whether a layer whose nests it has rewritten is scheduled by hand, so that no other schedule is
            made for it. A choice of an algorithm, or a cut into parts that are scheduled each, is none.
        keeps_nests: whether it changes only what parameters hold, and no nest.
        takes_away: whether it removes layers from the network, and does not only make others of them.
        may_find_nothing: whether a schedule that holds it goes on where the program does not admit it.
    """

    kind: ClassVar[Kind]
    is_schedule: ClassVar[bool] = True
    keeps_nests: ClassVar[bool] = False
    takes_away: ClassVar[bool] = False
    may_find_nothing: ClassVar[bool] = False

    @classmethod
    def space(cls, nest: Nest) -> Sequence[Self]:
        """The parameterisations that a search may try on a layer's main nest, in a fixed order; none by default.

        Not all of them need be legal: `analyze` decides.
        """
        return ()

    @property
    def address(self) -> Address | None:
        """The nest that it is on; None for one without the option `layer`."""
        text = getattr(self, "layer", None)
        return Address.parse(text) if isinstance(text, str) else None

    @property
    def scope(self) -> Scope:
        """How far it reaches: "nest", the nests of its layer; "neighbours", it also takes in what comes just before
        and after these; "network", it also changes a memref that other layers share."""
        return "nest" if self.kind == "loop" else "network"

    @property
    def shrinks(self) -> str | None:
        """The iterator of its nest that becomes shorter; what is tied to an output iterator follows, also in other
        layers. None where the extents that layers share stay as they are."""
        return None

    def on(self, layer: str) -> Self:
        """The same transformation of another layer."""
        if self.address is None:
            return self
        fields: dict[str, Any] = {"layer": str(self.address.on(layer))}
        return dataclasses.replace(self, **fields)

    def stays_within(self, module: ir.Operation, shared: Collection[ir.Value]) -> bool:
        """Whether it looks at and changes nothing but its layer's nests.

        Args:
            module: a module that it is legal in.
            shared: the memrefs that the layer shares with others.
        """
        return self.scope == "nest"

    def vector_extents(self, extents: Mapping[str, int | None]) -> Mapping[str, int]:
        """The extents that it leaves, of those iterators that vectors may run along; none where it changes none.

        Args:
            extents: iterator -> extent of the nest that it is on.
        """
        return {}

    @abstractmethod
    def analyze(self, module: ir.Operation) -> PlanT:
        """Checks everything and changes nothing; returns all that `rewrite` needs. The context is entered already.

        Raises:
            ArgumentError: an option names something that is not there, or is out of range.
            IllegalTransform: the program does not admit the transformation.
        """

    def analyze_nest(self, nest: Nest) -> PlanT:
        """`analyze`, given the nest that it is on."""
        return self.analyze(_module_of(nest))

    @abstractmethod
    def rewrite(self, plan: PlanT) -> ir.Operation:
        """Carries the plan out; returns the outermost loop of the (first) nest that it built or changed."""

    def apply(self, module: ir.Operation) -> ir.Operation:
        """`analyze`, `rewrite`, and the record in `morph.schedule`; returns what `rewrite` returns.

        Nests that have no name yet get one where the option `layer` names none of those that have.
        """
        with module.context, ir.Location.unknown():
            nest = self._rewrite(module, self._explained(module, lambda: self._analyzed(module)))
            marks.record_steps(module, str(self))
        return nest

    def _analyzed(self, module: ir.Operation) -> PlanT:
        """`analyze`; once more where its nest is only found when the nests have been named."""
        try:
            return self.analyze(module)
        except (ArgumentError, IllegalTransform):
            if self.address is None or root_at(module, str(self.address)) is not None:
                raise
            name_nests(module)
            return self.analyze(module)

    def apply_to(self, nest: Nest) -> ir.Operation:
        """As `apply`, given the nest that it is on; leaves the record to the caller.

        To look for a nest in a large program takes longer than to change it.
        """
        module = _module_of(nest)
        with module.context, ir.Location.unknown():
            return self._rewrite(module, self._explained(module, lambda: self.analyze_nest(nest)))

    def _explained(self, module: ir.Operation, analyze: Callable[[], PlanT]) -> PlanT:
        """What `analyze` gives, whose refusal shows the nest that it is about."""
        try:
            return analyze()
        except IllegalTransform as refusal:
            if self.address is not None and refusal.explain is None:
                refusal.explain = functools.partial(explain, module, self.address.layer, str(refusal))
            raise

    def _rewrite(self, module: ir.Operation, plan: PlanT) -> ir.Operation:
        """`rewrite`; a change of the network outdates what was chosen for the nests that it changes."""
        if self.kind == "loop":
            return self.rewrite(plan)
        before = chosen_nests(module)
        nest = self.rewrite(plan)
        drop_outdated(module, before)
        return nest

    def run(self, module: ir.Operation) -> None:
        self.apply(module)


class NestTransformation(Transformation[PlanT]):
    """A transformation that looks at nothing but the nest at the address `layer` and at what uses its memrefs."""

    layer: str

    @abstractmethod
    def analyze_nest(self, nest: Nest) -> PlanT: ...

    def analyze(self, module: ir.Operation) -> PlanT:
        with module.context:
            return self.analyze_nest(find_nest(module, self.layer))


def _module_of(nest: Nest) -> ir.Operation:
    return nest.root.operation.parent.operation.parent.operation
