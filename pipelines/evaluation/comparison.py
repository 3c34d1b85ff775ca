"""Whole networks: what each way to choose gives in speed and accuracy, beside the paper's Fig. 4."""

from __future__ import annotations

from collections.abc import Mapping

from loopmorph.pipelines.bench.paper_figures import FIG4
from loopmorph.pipelines.evaluation.markdown import listed, not_measured, number, sentence
from loopmorph.pipelines.evaluation.networks import (
    ALLOWED,
    choice_sentences,
    fastest_within,
    front_sentence,
    missing_choices,
    network_table,
    remarks,
    seeds_sentence,
    setting_lines,
)
from loopmorph.pipelines.evaluation.pictures import Bars, draw_bars, draw_front
from loopmorph.pipelines.evaluation.section import Part, Studies
from loopmorph.pipelines.evaluation.study import CHOICES, Study
from loopmorph.pipelines.support.markdown import table

MODELS = tuple(FIG4)
_TARGETS = (2.0, 3.0, 4.0, 6.0)
_CHOSEN = ("joint", "greedy", "uniform", "fisher-init", "random", "nas", "blockswap")
_BARS = "fig4.svg"
_ABOUT = f"""## Whole networks

What a way to choose is worth: networks of one original, chosen from one table of variants, repaired, trained on one
recipe and timed in turns with the original by the same compiler. Accuracies are those of all test images, a figure a
seed. "Not told apart" are means that differ by less than two standard errors of what seeds vary by. A network has
lost what its mean is below its original's, as it came or after the same training, whichever is higher.

### Beside the paper's Fig. 4

The paper's bars are read off its picture (Turner, Crowley and O'Boyle, ASPLOS 2021, CPU; to about 2 %), and its
baseline is untuned TVM: the original with TVM's default schedules. Ours is our own compiler on the unmodified
network, so that only the choice of the network differs; the two do not compare, and stand side by side as what each
says of itself. Of each choice the bar is that of the fastest network that has lost at most {ALLOWED:g} point; as
there are few, and they are picked by the accuracy that they are shown with, this flatters all of them alike.
"""


def comparison_section(studies: Studies) -> Part:
    """The table beside the paper's bars, then a table for each network."""
    pictures: dict[str, str] = {}
    lines = [*_ABOUT.splitlines(), ""]
    mine = studies.of("networks")
    compared = {name: study for name, study in mine.items() if study.compared_by is not None}
    groups = [_bars(name, study) for name, study in compared.items()]
    if any(group.ours for group in groups):
        lines += [*_bars_table(compared), "", f"![the paper's bars and ours](evaluation/{_BARS})", ""]
        lines += [*_headlines(compared), ""]
        pictures[_BARS] = draw_bars([group for group in groups if group.ours])
    for name, study in mine.items():
        lines += _network_lines(name, study, pictures)
    for model in MODELS:
        if model not in {study.provenance.model for study in mine.values()}:
            lines += [f"### {model}", "", *not_measured("no rewrite of it was repaired and trained", _commands(model))]
    return Part(lines, pictures)


def _bars(name: str, study: Study) -> Bars:
    recipe = study.compared_by or ""
    found = {choice: fastest_within(study, recipe, choice) for choice in CHOICES}
    ours = {choice: each.speedup for choice, each in found.items() if each is not None and each.speedup is not None}
    model = study.provenance.model
    paper = dict(zip(("BlockSwap", "its own"), FIG4[model], strict=True)) if model in FIG4 else {}
    return Bars(name, paper, ours)


def _bars_table(studies: Mapping[str, Study]) -> list[str]:
    groups = [_bars(name, study) for name, study in studies.items()]
    chosen = [choice for choice in CHOICES if any(choice in group.ours for group in groups)]
    headings = ["network", "paper: BlockSwap", "paper: its own", *(f"ours: {CHOICES[choice]}" for choice in chosen)]
    rows = [
        [
            group.name,
            *(number(group.paper.get(bar), 2) for bar in ("BlockSwap", "its own")),
            *(_with_loss(study, choice) for choice in chosen),
        ]
        for group, study in zip(groups, studies.values(), strict=True)
    ]
    return table(headings, rows)


def _with_loss(study: Study, choice: str) -> str:
    recipe = study.compared_by or ""
    network = fastest_within(study, recipe, choice)
    if network is not None:
        return f"{number(network.speedup, 2)} ({number(study.lost(network, recipe), 2)} lost)"
    tried = any(each.chosen_by == choice and each.after(recipe) is not None for each in study.networks)
    return "none" if tried else "not measured"


def _headlines(studies: Mapping[str, Study]) -> list[str]:
    """In one sentence a study which choice is the fastest within the limit."""
    lines = []
    for name, study in studies.items():
        ours = _bars(name, study).ours
        if not ours:
            continue
        best = max(ours, key=lambda choice: ours[choice])
        others = [f"{CHOICES[each]} {value:.2f}" for each, value in ours.items() if each != best]
        rest = f"; {listed(others)}" if others else ""
        lines.append(
            f"- {name}: the fastest within {ALLOWED:g} point is {CHOICES[best]}, {ours[best]:.2f} times{rest}."
        )
    return lines


def _network_lines(name: str, study: Study, pictures: dict[str, str]) -> list[str]:
    lines = [f"### {name}", "", *setting_lines(study, name), *network_table(study), ""]
    recipe = study.compared_by
    if recipe is None:
        return [*lines, *remarks(study), ""]
    front = draw_front(study, recipe)
    if front is not None:
        pictures[f"{name}.svg"] = front
        lines += [f"![accuracy over speed](evaluation/{name}.svg)", ""]
    lines += [_reference(study, recipe), seeds_sentence(study, recipe), front_sentence(study, recipe), ""]
    lines += [*choice_sentences(study, recipe), *remarks(study)]
    missing = missing_choices(study, recipe, _TARGETS, _CHOSEN)
    if missing:
        lines.append(f"- Not measured yet: {missing}.")
    return [*lines, ""]


def _reference(study: Study, recipe: str) -> str:
    deviation = study.deviation(recipe)
    seeds = "no network was trained with several seeds"
    if deviation is not None:
        seeds = f"accuracies vary between seeds with a standard deviation of {deviation:.2f} points"
    reference = number(study.reference(recipe), 2)
    return sentence(f"By the recipe '{study.recipes[recipe].title}', against {reference} % of the original; {seeds}")


def _commands(model: str) -> list[str]:
    return [
        f"loopmorph optimize package:{model} --data DATA --target-speedup 2 --target-speedup 3 --target-speedup 4 "
        "--target-speedup 6 --out out  # a factory, with trained weights",
        "loopmorph finetune out/4x/model.pt --data DATA --teacher WEIGHTS.pt --json tuned.json -o tuned.pt",
        f"loopmorph evaluation add docs/evaluation/{model}.json --report out/4x/report.json --trained tuned.json",
    ]
