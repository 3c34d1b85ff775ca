"""What the check says of networks before training, and what training says of them afterwards."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import scipy  # its parts are loaded when they are first used

from loopmorph.pipelines.evaluation.markdown import not_measured, number
from loopmorph.pipelines.evaluation.pictures import draw_calibration
from loopmorph.pipelines.evaluation.section import Part, Studies
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Study
from loopmorph.pipelines.legality.calibration import LEVEL, Calibration, Prediction
from loopmorph.pipelines.legality.calibration_file import shipped_calibration
from loopmorph.pipelines.support.markdown import table

_PICTURE = "calibration.svg"
_LEAST = 3  # networks of which a rank correlation says anything
_ABOUT = """## What the check says, and what training says

The calibration that comes with loopmorph (of {made}) predicts from joint KL, accuracy lost before training and
compression what each network above loses, against its original after the same training. It was made with the labels
alone, and of another network than its own it is borrowed. A positive mean of "predicted less lost" is a check that
is too careful.
"""


@dataclass(frozen=True)
class Judged:
    """A network with what was predicted of it and what it lost, in points."""

    name: str
    predicted: Prediction
    lost: float


def calibration_section(studies: Studies) -> Part:
    """How well predictions did, a row for each study and recipe."""
    calibration = shipped_calibration("")  # the one that there is, or the first; a study does not know its structure
    made = f"{calibration.provenance.network} on {calibration.provenance.data}, {calibration.provenance.epochs} epochs"
    lines = [*_ABOUT.format(made=made).splitlines(), ""]
    judged = {
        f"{study.provenance.model}, {study.recipes[recipe].title}": found
        for study in studies.of("networks").values()
        for recipe in study.recipes
        if (found := list(_judged(study, recipe, calibration)))
    }
    if not judged:
        commands = ["loopmorph calibrate resnet34 --data DATA --out calibration.json"]
        return Part(lines + not_measured("no network with a joint KL was trained", commands))
    headings = ["networks", "count", "rank correlation", "predicted less lost", "mean error", "median error"]
    headings += [f"in the {LEVEL:.0%} interval"]
    headings += ["lost more than its end", "lost less than its beginning"]
    lines += [*table(headings, [_row(name, found) for name, found in judged.items()]), ""]
    points = [(name, each.predicted.expected, each.lost) for name, found in judged.items() for each in found]
    return Part([*lines, f"![predicted and lost](evaluation/{_PICTURE})", ""], {_PICTURE: draw_calibration(points)})


def _judged(study: Study, recipe: str, calibration: Calibration) -> Iterator[Judged]:
    original = study.original
    reference = None if original is None else original.after(recipe)
    if original is None or reference is None:
        return
    for network in study.networks:
        after = network.after(recipe)
        signals = _signals(original, network)
        if after is not None and "kl" in signals:
            yield Judged(network.name, calibration.predict(signals), reference - after)


def _signals(original: MeasuredNetwork, network: MeasuredNetwork) -> dict[str, float]:
    found = {}
    if network.kl is not None:
        found["kl"] = network.kl
    if network.before is not None and original.before is not None:
        found["drop"] = max(0.0, original.before - network.before)
    if network.macs is not None and original.macs is not None:
        found["compression"] = original.macs / network.macs
    return found


def _row(name: str, judged: list[Judged]) -> list[str]:
    errors = [abs(each.predicted.expected - each.lost) for each in judged]
    above = sum(each.lost > each.predicted.high for each in judged)
    below = sum(each.lost < each.predicted.low for each in judged)
    rank = None
    if len(judged) >= _LEAST:
        expected, lost = [each.predicted.expected for each in judged], [each.lost for each in judged]
        rank = float(scipy.stats.spearmanr(expected, lost).statistic)
    inside = f"{len(judged) - above - below} of {len(judged)}"
    too_careful = statistics.mean(each.predicted.expected - each.lost for each in judged)
    means = [number(each, 2) for each in (too_careful, statistics.mean(errors), statistics.median(errors))]
    return [name, f"{len(judged)}", number(rank, 2), *means, inside, f"{above}", f"{below}"]
