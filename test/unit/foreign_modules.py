"""The modules of test/foreign, which nobody here imported: what is done with each, and what it computes.

The comments at the head of a file say:

    // before: PIPELINE       MLIR's own passes that come first
    // pipeline: PIPELINE     passes to run on the affine nests
    // parameters: N,...      which arguments are weights
    // refused: REGEX         why the pipeline, or compiling where there is none, is refused
    // expect: NUMBER ...     what it computes of `values`, by PyTorch; other files have a row in `foreign_references`
    // nest: ADDRESS | ITERATORS | ACCESSES    a line for each line of the table of nests
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch_mlir import ir

from loopmorph.passes.pipeline import run_pipeline
from loopmorph.tools.opt_input import Part, parse
from loopmorph.tools.opt_nests import nest_table

ROOT = Path(__file__).resolve().parents[1] / "foreign"


@dataclass(frozen=True)
class ForeignModule:
    """A file of test/foreign."""

    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    def lines(self, key: str) -> list[str]:
        """What the comments of this kind say."""
        return re.findall(rf"^// {key}: (.*)$", self.text, re.MULTILINE)

    @property
    def pipeline(self) -> str:
        return ",".join(self.lines("pipeline"))

    @property
    def refused(self) -> str:
        return "".join(self.lines("refused"))

    @property
    def parameters(self) -> tuple[int, ...]:
        return tuple(int(number) for line in self.lines("parameters") for number in line.split(","))

    @property
    def weights(self) -> dict[int, np.ndarray]:
        """Values for the parameters."""
        types = re.findall(r"%\w+: tensor<([\dx]+)xf32>", self.text)
        shapes = [[int(extent) for extent in text.split("x")] for text in types]
        return {number: values(shapes[number], number) for number in self.parameters}

    @cached_property
    def prepared(self) -> str:
        """The module after the passes of MLIR's own that come first."""
        before = ",".join(self.lines("before"))
        with ir.Context() as context, ir.Location.unknown():
            module = parse(Part(self.path.name, self.text), context)
            run_pipeline(module, before)
            return module.operation.get_asm(enable_debug_info=True)

    def table(self) -> list[str]:
        """The lines of the table of nests, without headings and places, in the form of the comments."""
        with ir.Context() as context, ir.Location.unknown():
            module = parse(Part(self.path.name, self.prepared), context)
            lines = nest_table(module).splitlines()
        rows = [" | ".join(re.split(r"\s{2,}", line)[:3]) for line in lines if not line.startswith("address ")]
        return [re.sub(r":\d+:\d+", "", row) for row in rows]  # the comments would change the numbers


MODULES = tuple(ForeignModule(path) for path in sorted(ROOT.glob("*/*.mlir")))


def values(shape: Sequence[int], number: int, dtype: str = "float32") -> np.ndarray:
    """The elements of argument `number`: small multiples of a quarter, or small integers."""
    k = np.arange(int(np.prod(shape)))
    steps = (k * 7 + 3 * number) % 11 - 5
    return np.asarray(steps / 4 if dtype.startswith("float") else steps, dtype).reshape(tuple(shape))
