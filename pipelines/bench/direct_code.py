"""A program whose contractions are all computed directly, none by Winograd: what an algorithm gains shows beside it."""

from __future__ import annotations

from collections import Counter

from loopmorph.passes import marks
from loopmorph.passes.address import addressed_roots
from loopmorph.passes.analysis.choice import DIRECT
from loopmorph.passes.analysis.cost import macs
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import view_nest
from loopmorph.passes.scheduling.choose import Choose
from loopmorph.passes.scheduling.default_schedule import ALGORITHM_CHOICES
from loopmorph.pipelines.program import Program


def with_algorithm(program: Program, algorithm: str, layer: str | None = None) -> Program:
    """The program as it is for "auto", with its nests told to be computed directly for "direct".

    Args:
        program: the program.
        algorithm: "auto" or "direct".
        layer: the layer whose nests are meant; by default every layer's.

    Raises:
        ArgumentError: another algorithm.
    """
    if algorithm not in ALGORITHM_CHOICES:
        raise ArgumentError("algorithm", f"expected one of {', '.join(ALGORITHM_CHOICES)}, got '{algorithm}'")
    if algorithm == "auto":
        return program
    module = program.module.operation
    with module.context:
        mains = [(a, view_nest(root)) for a, root in addressed_roots(module) if a.role == marks.MAIN]
        meant = [(a, nest) for a, nest in mains if layer in (None, a.layer) and macs(nest)]
    count = Counter(address.layer for address, _ in mains)
    told = [address.layer if count[address.layer] == 1 else str(address) for address, _ in meant]
    steps = [str(Choose(address, algorithm=DIRECT)) for address in told]
    return program.apply(",".join(steps)) if steps else program
