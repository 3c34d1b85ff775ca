"""`morph-choose`: what the default schedule is to do with a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.analysis.choice import WINOGRAD_TILES, check_algorithm, check_block
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.winograd import WinogradFiltering
from loopmorph.passes.nest import Nest
from loopmorph.passes.transformation import Kind, Transformation


@dataclass(frozen=True)
class ChoosePlan:
    """The nest, and the attributes to set on its outermost loop."""

    nest: Nest
    texts: dict[str, str]


@dataclass(frozen=True)
class Choose(Transformation[ChoosePlan]):
    """Chooses how a contraction is computed: `morph-choose{layer=conv1 algorithm=direct block=1x4x4}`.

        affine.for %n ... {                     affine.for %n ... {
          ...                            ->       ...
        } {morph.layer = "conv1"}               } {morph.algorithm = "direct", morph.block = "1x4x4",
                                                   morph.layer = "conv1"}

    Nothing is computed differently until `morph-default-schedule` follows the choice; there, a choice that the nest
    does not admit, as it is by then and in the layout that it has there, is an error. A layer that other loop
    transformations have scheduled does not heed it. What is not given stays as it was, or is left to the model. A
    transformation of the network takes back what it makes impossible (see `passes/outdated_choices`).

    Requires a layer whose main nest accumulates products; for a winograd algorithm, one to which `morph-winograd` can
    be applied, or has been.

    Attributes:
        layer: qualified name of the layer whose main nest is meant.
        algorithm: "direct", "winograd2" or "winograd4".
        block: the register block, "ROWSxCOLUMNSxBLOCKS": of the last two pixel iterators, and of the vectors of output
            channels. The winograd algorithms' is that of their products.
        samples: how many images a winograd algorithm computes at a time (see `morph-winograd`), at most all of them.
    """

    name: ClassVar[str] = "morph-choose"
    kind: ClassVar[Kind] = "loop"
    is_schedule: ClassVar[bool] = False

    layer: str
    algorithm: str | None = None
    block: str | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm is None and self.block is None and self.samples is None:
            raise ArgumentError("algorithm", f"{self.name} needs an algorithm, a block, or samples")
        for name, value, check in (("algorithm", self.algorithm, check_algorithm), ("block", self.block, check_block)):
            problem = check(value) if value is not None else ""
            if problem:
                raise ArgumentError(name, problem)
        if self.samples is not None and self.samples < 1:
            raise ArgumentError("samples", f"expected a number of images from 1 on, got {self.samples}")
        if self.samples is not None and self.algorithm not in (None, *WINOGRAD_TILES):
            raise ArgumentError("samples", f"the algorithm '{self.algorithm}' is not computed some images at a time")

    def analyze(self, module: ir.Operation) -> ChoosePlan:
        with module.context:
            nest = find_nest(module, self.layer)
            if not macs(nest):
                raise IllegalTransform(nest.label, "it accumulates no products, so there is nothing to choose")
            algorithm = self.algorithm or ""
            if algorithm in WINOGRAD_TILES and not _is_transformed(module, nest):
                filtering = WinogradFiltering(self.layer, WINOGRAD_TILES[algorithm])
                require_possible(module, filtering, nest.label, algorithm)
            samples = None if self.samples is None else str(self.samples)
            texts = {marks.ALGORITHM: self.algorithm, marks.BLOCK: self.block, marks.SAMPLES: samples}
            return ChoosePlan(nest, {name: text for name, text in texts.items() if text is not None})

    def rewrite(self, plan: ChoosePlan) -> ir.Operation:
        with plan.nest.root.context:
            for name, text in plan.texts.items():
                plan.nest.root.attributes[name] = ir.StringAttr.get(text)
            return plan.nest.root.operation


def _is_transformed(module: ir.Operation, nest: Nest) -> bool:
    """Whether Winograd's transforms stand around the nest already."""
    return any(other.role == marks.OUTPUT_TRANSFORM for other in layer_nests(module, nest.layer))


def require_possible(module: ir.Operation, step: WinogradFiltering, label: str, algorithm: str) -> None:
    """Makes sure that a nest admits the algorithm that is chosen for it, of which `step` is the first step.

    Raises:
        IllegalTransform: it does not; says what is accepted.
    """
    try:
        step.analyze(module)
    except IllegalTransform as refusal:
        reason = f"the algorithm '{algorithm}' is not possible: {refusal.reason}; 'direct' is accepted"
        raise IllegalTransform(label, reason) from refusal
