"""BlockSwap (Turner et al., ICLR 2020): random assignments of substitutes to blocks, ranked by Fisher at a budget."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.history import pipeline_text
from loopmorph.pipelines.bench.signal_rows import RowFile, SignalRow
from loopmorph.pipelines.bench.traditional.substitutes import Option, block_options
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.proxy import FisherPotential, Score
from loopmorph.pipelines.legality.size import parameter_count
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.rewritten.substitution import substitute
from loopmorph.pipelines.store.cache_file import hash_of
from loopmorph.pipelines.support.digests import digest_of
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.support.progress import Progress, silent, stage
from loopmorph.pipelines.training.task import Task, classification

FISHER = "fisher"
_DRAWS = 2_000_000  # assignments that are drawn before it is given up
_CHUNK = 8192  # of these at once
_SEEN_WHOLE = 32  # draws for each assignment there is, after which all of a small space have come up


@dataclass(frozen=True)
class BlockSwap:
    """What BlockSwap chose.

    Attributes:
        program: the network with the substitutes, by our passes.
        choice: block -> the name of its option (see `substitutes`).
        parameters: how many trainable ones it has.
        fisher: its Fisher Potential.
        original: how many parameters the network had.
        least: the fewest that it could have.
        budget: the most that were allowed.
        samples: how many assignments within the budget were ranked.
        drawn: how many were drawn for that.
        source: where the images are from.
        interrupted: whether the ranking was stopped, so that others would have followed.
    """

    program: Program
    choice: Mapping[str, str]
    parameters: int
    fisher: Score
    original: int
    least: int
    budget: int
    samples: int
    drawn: int
    source: str
    interrupted: bool

    @property
    def schedule(self) -> str:
        """The steps that made the program, as `Program.apply` takes them."""
        return pipeline_text(self.program.history)

    def to_json(self) -> str:
        """All but the network, which the schedule makes again."""
        content = {name: value for name, value in vars(self).items() if name != "program"}
        fisher = self.fisher.value if math.isfinite(self.fisher.value) else None
        return json.dumps({**content, "fisher": fisher, "schedule": self.schedule}, indent=2) + "\n"


def blockswap(
    program: Program,
    data: str | Path | Batch | None,
    budget: int,
    *,
    samples: int = 1000,
    window: float = 0.05,
    pointwise: bool = False,
    images: int = 128,
    seed: int = 0,
    repeats: int = 1,
    device: str | None = None,
    out: Path | None = None,
    progress: Progress = silent,
) -> BlockSwap:
    """The substitutes for a network's blocks that BlockSwap chooses at a budget of parameters.

    As the paper has it: an option for each block is drawn at random, uniformly, until as many assignments as asked for
    are at the budget; the one with the largest Fisher Potential at initialisation wins. Here all are measured on the
    same minibatch and with common random weights (see `reinitialize`), and Fisher is probed at the blocks' outputs.

    Ctrl-C ends the ranking and gives the best so far; with `out`, the same call goes on from there.

    Args:
        program: the network, as it was imported.
        data: a `Batch`; or a folder or file of images, or None for synthetic ones (see `load_batch`).
        budget: the most trainable parameters of the network that is looked for.
        samples: how many assignments are ranked.
        window: they have at least `(1 - window) * budget` parameters; the authors' window is as wide as 0.05.
        pointwise: whether convolutions of size 1 are substituted, too; BlockSwap leaves them.
        images: in the minibatch.
        seed: of the assignments and the weights, and chooses the images.
        repeats: initialisations that Fisher is averaged over.
        device: where Fisher is measured; None takes a CUDA device when there is one.
        out: file of JSON lines that keeps what was measured (see `RowFile`); it serves other budgets as well.
        progress: called with what is being done, how much is done, and of how much.

    Raises:
        ArgumentError: an argument out of range, a program that was transformed already, a network without blocks that
            can be substituted, or a budget that cannot be reached: tells the least possible.
        DataError: the data cannot be read.
        IllegalTransform: the network's own code cannot run with a substitute.
    """
    _check(program, budget, samples, window, images, seed, repeats)
    task = classification(program, data, images, seed)
    with stage(progress, "substitutes"):
        options = block_options(program, pointwise=pointwise)
    space = _Space(program, options)
    space.check(budget)
    chosen, drawn = draw(space.added, ((1 - window) * budget - space.original, budget - space.original), samples, seed)
    if not chosen:
        reason = f"none of {drawn:,} random networks has {1 - window:.0%} to 100% of {budget:,} parameters"
        raise ArgumentError("budget", f"{reason}; the least possible is {space.least:,}; a wider window may have some")
    fisher = FisherPotential(task, seed, repeats, device=device)
    file = RowFile(out, _setting(program, task, fisher))
    interrupted = _rank(space, chosen, fisher, file, progress)
    measured = [row for row in map(space.name, chosen) if row in file.rows]
    if not measured:
        raise KeyboardInterrupt
    best = max(measured, key=lambda name: _rankable(file.rows[name].scores[FISHER].value))
    selection = next(each for each in chosen if space.name(each) == best)
    with stage(progress, "the chosen network"):
        swapped = space.program_of(selection)
    return BlockSwap(
        swapped,
        {block: option.name for block, option in space.picked(selection).items()},
        space.parameters(selection),
        file.rows[best].scores[FISHER],
        space.original,
        space.least,
        budget,
        len(measured),
        drawn,
        task.source,
        interrupted,
    )


Selection = tuple[int, ...]  # the number of the option of each block


def draw(
    added: Sequence[Sequence[int]], bounds: tuple[float, int], samples: int, seed: int
) -> tuple[list[Selection], int]:
    """Distinct random selections by rejection, each option of a block as likely as the others.

    Args:
        added: for each block, what each of its options adds to a sum.
        bounds: the least and the largest sum that is kept.
        samples: how many selections are wanted.
        seed: what is drawn is a function of all arguments alone; more begin with fewer.

    Returns:
        The selections, fewer where they are rare; and how many were drawn.
    """
    generator = np.random.default_rng(abs(seed) * 2 + (seed < 0))
    least, most = bounds
    found: dict[Selection, None] = {}
    enough = _SEEN_WHOLE * math.prod(map(len, added))
    for before in range(0, min(_DRAWS, enough), _CHUNK):
        picks = np.stack([generator.integers(len(each), size=_CHUNK) for each in added], axis=1)
        sums = sum(np.asarray(each, dtype=np.int64)[picks[:, k]] for k, each in enumerate(added))
        for position in np.flatnonzero((sums >= least) & (sums <= most)).tolist():
            found.setdefault(tuple(picks[position].tolist()))
            if len(found) == samples:
                return list(found), before + position + 1
    return list(found), before + _CHUNK


@dataclass(frozen=True)
class _Space:
    """A network and what its blocks may become."""

    program: Program
    options: Mapping[str, tuple[Option, ...]]

    @property
    def original(self) -> int:
        return parameter_count(self.program.model)

    @property
    def added(self) -> list[list[int]]:
        return [[option.added for option in options] for options in self.options.values()]

    @property
    def least(self) -> int:
        return self.original + sum(map(min, self.added))

    def check(self, budget: int) -> None:
        if not self.options:
            raise ArgumentError("program", "it has no block with a convolution that BlockSwap's blocks can stand for")
        if budget < self.least:
            reason = f"{budget:,} parameters cannot be reached; the least possible is {self.least:,}"
            raise ArgumentError("budget", f"{reason}, of {self.original:,} that the network has")

    def picked(self, selection: Selection) -> dict[str, Option]:
        return {block: options[k] for (block, options), k in zip(self.options.items(), selection, strict=True)}

    def name(self, selection: Selection) -> str:
        """How a selection is known again, whatever the budget."""
        return " ".join(f"{block}={option.name}" for block, option in self.picked(selection).items())

    def parameters(self, selection: Selection) -> int:
        return self.original + sum(option.added for option in self.picked(selection).values())

    def module_of(self, selection: Selection) -> nn.Module:
        """The network as `program_of` has it, but for the weights, without a step of it being applied."""
        model = copy.deepcopy(self.program.model)
        swaps = {
            id(model.get_submodule(layer)): copy.deepcopy(each.module)
            for option in self.picked(selection).values()
            for layer, each in option.layers.items()
        }
        return substitute(model, swaps)

    def program_of(self, selection: Selection) -> Program:
        found = [each for option in self.picked(selection).values() for each in option.layers.items()]
        return self.program.after([step.on(layer) for layer, each in found for step in each.steps])


def _rank(
    space: _Space, chosen: Sequence[Selection], fisher: FisherPotential, file: RowFile, progress: Progress
) -> bool:
    """Measures those that the file does not have; whether it was interrupted."""
    try:
        with noted_interrupts() as check:
            for done, selection in enumerate(chosen):
                progress(FISHER, done, len(chosen))
                name = space.name(selection)
                if name not in file.rows:
                    score = fisher.measure(space.module_of(selection))
                    file.put(SignalRow(name, None, {FISHER: score}))
                check()
            progress(FISHER, len(chosen), len(chosen))
    except KeyboardInterrupt:
        return True
    return False


def _rankable(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _setting(program: Program, task: Task, fisher: FisherPotential) -> dict[str, object]:
    """What a potential depends on besides the assignment."""
    network = hash_of(str(program.module))[:16]
    inputs = digest_of((task.inputs[0], task.targets))[:16]
    return {"baseline": "blockswap", "network": network, "batch": inputs, **fisher.describe()}


def _check(program: Program, budget: int, samples: int, window: float, images: int, seed: int, repeats: int) -> None:
    if program.steps:
        raise ArgumentError("program", f"expected it as it was imported; it has been transformed: {program.steps[0]}")
    for name, value in (("budget", budget), ("samples", samples), ("images", images), ("repeats", repeats)):
        check_count(name, value)
    original = parameter_count(program.model)
    if budget >= original:
        raise ArgumentError("budget", f"the network itself has {original:,} parameters, which {budget:,} allow")
    check_seed(seed)
    if not 0 < window <= 1:
        raise ArgumentError("window", f"expected a number above 0 and up to 1, got {window!r}")
