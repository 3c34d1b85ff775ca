"""What the worker process and its parent say to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loopmorph.passes.errors import ArgumentError


@dataclass(frozen=True)
class RunJob:
    """Compile one module and run it once.

    Attributes:
        module: text (or bytecode) of a module of affine nests with one function `@main`.
        parameters: qualified name -> array, at least for the parameters that the module reads.
        inputs: the inputs, by position.
        threads: number of threads of the compiled code; None for as many as the worker was made for.
        target: the processor, as text (see `resolve_target`); None for the one that the worker was made for.
    """

    module: str | bytes
    parameters: Mapping[str, np.ndarray]
    inputs: Sequence[np.ndarray]
    threads: int | None = None
    target: str | None = None


@dataclass(frozen=True)
class TimeJob:
    """Compile several modules and time them in turns, on arbitrary numbers.

    Attributes:
        modules: texts (or bytecode) of modules of affine nests with one function `@main` each.
        rounds: samples of each module. A sample is the mean over as many calls as take a millisecond, or, cold, the
            time of one call.
        least_rounds: samples of each that are taken even when the budget is spent.
        budget: seconds after which no further round begins; compilation does not count.
        threads, target: as for `RunJob`.
        cold: bytes of other weights that are read before each sample, as the rest of a network reads them from one
            image to the next; what they do not evict from the caches stays there. The other memory is then read, as the
            layer before has written it. 0 for none of that.
    """

    modules: Sequence[str | bytes]
    rounds: int = 20
    least_rounds: int = 3
    budget: float = 2.0
    threads: int | None = None
    target: str | None = None
    cold: int = 0

    def __post_init__(self) -> None:
        """Raises:
        ArgumentError: a number of rounds that is not positive.
        """
        for name, value in (("rounds", self.rounds), ("least_rounds", self.least_rounds)):
            if value < 1:
                raise ArgumentError(name, f"expected a positive number, got {value}")


@dataclass(frozen=True)
class Reply:
    """The answer to one job: `error` is one line, empty where the job succeeded.

    Attributes:
        outputs: of a `RunJob`: the outputs, by position.
        seconds: of a `TimeJob`: for each module, the seconds of one call in each round.
        error: why the job failed.
    """

    outputs: list[np.ndarray] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)
    error: str = ""
