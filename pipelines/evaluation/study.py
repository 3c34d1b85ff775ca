"""A study: networks, operators or searches that were measured under one setting, as they are stored."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Section = Literal["networks", "rewritten", "precision", "pruning", "imagenet", "engines", "operators", "search"]
NETWORK_SECTIONS: tuple[Section, ...] = ("networks", "rewritten", "precision", "pruning", "imagenet")
RESULT_SECTIONS: tuple[Section, ...] = ("engines", "operators")

# How a network came about -> what the page calls it, in the page's order.
CHOICES: Mapping[str, str] = {
    "joint": "joint choice",
    "greedy": "greedy",
    "uniform": "uniform",
    "fisher-init": "Fisher at initialisation",
    "random": "random",
    "nas": "traditional NAS",
    "blockswap": "BlockSwap",
    "pruning": "pruning",
    "original": "original",
}


@dataclass(frozen=True)
class Run:
    """One training of a network.

    Attributes:
        recipe: a key of the study's `recipes`.
        seed: of the training; None where it was not recorded.
        accuracy: on the test images afterwards, in points (per cent).
        left_out: why the run does not count in means; empty where it does. The page shows it all the same.
    """

    recipe: str
    seed: int | None
    accuracy: float
    left_out: str = ""


@dataclass(frozen=True)
class Recipe:
    """How networks were trained.

    Attributes:
        title: in a few words.
        epochs: passes over the training part.
        command: what trains one network so.
    """

    title: str
    epochs: int
    command: str


@dataclass(frozen=True)
class MeasuredNetwork:
    """One network; what was not measured is None.

    Attributes:
        name: of the row; no other row of the study has it.
        chosen_by: a key of `CHOICES`.
        detail: what else tells it from others that were chosen so, in a few words.
        compiler: whose code was timed.
        target: how many times as fast as the original it was asked to be.
        speedup: how many times as fast it was measured to be, in turns with the original.
        ms: measured milliseconds of a call.
        predicted_ms: what the choice took it for, in milliseconds.
        macs: multiply-accumulates of one image.
        parameters: trained ones.
        kl: joint KL of its predictions from the original's, in nats, after repair and before training.
        repair_images: that its weights were fitted to.
        before: accuracy before training, in points.
        runs: its trainings.
        note: anything that a reader has to know, a sentence.
    """

    name: str
    chosen_by: str
    detail: str = ""
    compiler: str = "loopmorph"
    target: float | None = None
    speedup: float | None = None
    ms: float | None = None
    predicted_ms: float | None = None
    macs: int | None = None
    parameters: int | None = None
    kl: float | None = None
    repair_images: int | None = None
    before: float | None = None
    runs: tuple[Run, ...] = ()
    note: str = ""

    def accuracies(self, recipe: str) -> list[float]:
        """After each training by a recipe that counts, in points."""
        return [run.accuracy for run in self.runs if run.recipe == recipe and not run.left_out]

    def after(self, recipe: str) -> float | None:
        """The mean accuracy after training by a recipe, in points; None where there is none that counts."""
        found = self.accuracies(recipe)
        return statistics.mean(found) if found else None


@dataclass(frozen=True)
class Provenance:
    """Under what a study was made; what was not recorded is None or empty.

    Attributes:
        model: what the network is called.
        data: the images that it was trained and tested on, in one line.
        processor, threads: what times were measured on.
        gpu: what networks were repaired and trained on.
        versions: of what the figures depend on.
        commit: of this repository.
        commands: that made the figures, in order.
        notes: anything that a reader has to know, a sentence each.
    """

    model: str
    data: str = ""
    processor: str | None = None
    threads: int | None = None
    gpu: str | None = None
    versions: Mapping[str, str] | None = None
    commit: str | None = None
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchCost:
    """What it took to find a network.

    Attributes:
        what: was done.
        seconds: wall time.
        candidates: that were measured or scored.
        cores: of the processor that worked.
    """

    what: str
    seconds: float
    candidates: int
    cores: int


@dataclass(frozen=True)
class Study:
    """What one file holds.

    Attributes:
        section: where it stands on the page.
        provenance: under what it was made.
        recipes: name -> how networks were trained; the first one is the one that choices are compared by.
        original: the network that the others were made from; None in sections without networks.
        networks: the others.
        result: what `loopmorph operators --json` or `loopmorph bench --json` wrote, in the sections of these.
        searches: what searches took, in the section "search".
    """

    section: Section
    provenance: Provenance
    recipes: Mapping[str, Recipe]
    original: MeasuredNetwork | None = None
    networks: tuple[MeasuredNetwork, ...] = ()
    result: Mapping[str, Any] | None = None
    searches: tuple[SearchCost, ...] = ()

    @property
    def compared_by(self) -> str | None:
        """The first recipe; None where nothing was trained."""
        return next(iter(self.recipes), None)

    def reference(self, recipe: str) -> float | None:
        """The accuracy that others are held against: the original's, as it came or after the same training, whichever
        is higher; in points.
        """
        original = self.original
        found = [] if original is None else [original.before, original.after(recipe)]
        return max((each for each in found if each is not None), default=None)

    def lost(self, network: MeasuredNetwork, recipe: str) -> float | None:
        """Points of accuracy that a network has lost against `reference`; negative where it has won some."""
        reference, after = self.reference(recipe), network.after(recipe)
        return None if reference is None or after is None else reference - after

    def deviation(self, recipe: str) -> float | None:
        """The standard deviation of an accuracy between seeds, pooled over the networks that were trained with several;
        None where there are none.
        """
        everyone = [*self.networks, *([self.original] if self.original else [])]
        repeated = [found for each in everyone if len(found := each.accuracies(recipe)) > 1]
        return pooled_deviation(repeated)


def pooled_deviation(samples: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within samples of at least two each, weighted by their degrees of freedom."""
    freedom = sum(len(each) - 1 for each in samples)
    if not freedom:
        return None
    return float((sum(statistics.variance(each) * (len(each) - 1) for each in samples) / freedom) ** 0.5)
