"""A program whose contractions are all computed directly, none by Winograd: what an algorithm gains shows beside it."""

from __future__ import annotations

from collections import Counter

from loopmorph.passes import marks
from loopmorph.passes.analysis.choice import DIRECT
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import nests
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.scheduling.default_schedule import ALGORITHM_CHOICES
from loopmorph.pipelines.program import Program


def with_algorithm(program: Program, algorithm: str) -> Program:
    """The program as it is for "auto", with every layer of one main nest told to be computed directly for "direct".

    Raises:
        ArgumentError: another algorithm.
    """
    if algorithm not in ALGORITHM_CHOICES:
        raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{algorithm}'")
    if algorithm == "auto":
        return program
    mains = [nest for nest in nests(program.module.operation) if nest.role == marks.MAIN and macs(nest)]
    count = Counter(nest.layer for nest in mains)
    steps = [str(Choose(nest.layer, algorithm=DIRECT)) for nest in mains if count[nest.layer] == 1]
    return program.apply(",".join(steps)) if steps else program
