"""The table of a study's networks, and what it shows."""

from __future__ import annotations

from collections.abc import Iterable

from loopmorph.pipelines.evaluation.markdown import NOTHING, code, listed, number, sentence
from loopmorph.pipelines.evaluation.study import CHOICES, MeasuredNetwork, Recipe, Run, Study
from loopmorph.pipelines.support.markdown import table

ALLOWED = 1.0  # points of accuracy, within which a network counts as one that is as good
_NEAR = 0.1  # share of its speed by which a network that was asked for another one may differ, and is still compared
_ERRORS = 2.0  # standard errors below which two means are not told apart


def network_table(study: Study) -> list[str]:
    """All networks, the original first, then by target and choice; what was left out of means is marked."""
    recipes = list(study.recipes)
    headings = [
        "speed-up asked",
        "chosen by",
        "measured",
        "ms",
        "predicted ms",
        "million MACs",
        "million parameters",
        "joint KL",
        "images of repair",
        "before",
    ]
    headings += [f"after, {study.recipes[name].title}" for name in recipes]
    rows = [_row(study, network, recipes) for network in in_order(study)]
    return table(headings, rows)


def in_order(study: Study) -> list[MeasuredNetwork]:
    """The networks in the order of the page."""
    order = list(CHOICES)
    original = [study.original] if study.original else []
    return original + sorted(
        study.networks,
        key=lambda each: (_place(each), order.index(each.chosen_by), each.repair_images or 0, each.detail),
    )


def _place(network: MeasuredNetwork) -> float:
    return network.target or network.speedup or 0.0


def _row(study: Study, network: MeasuredNetwork, recipes: list[str]) -> list[str]:
    asked = NOTHING if network.target is None else f"{network.target:g}"
    speedup = 1.0 if network is study.original else network.speedup
    by = CHOICES[network.chosen_by] + (f" ({network.detail})" if network.detail else "")
    if network.compiler != "loopmorph":
        by += f", {network.compiler}"
    cells = [asked, by, number(speedup, 2), number(network.ms, 2), number(network.predicted_ms, 2)]
    cells += [number(network.macs, 0, 1e-6), number(network.parameters, 2, 1e-6), number(network.kl, 3)]
    cells += [NOTHING if network.repair_images is None else f"{network.repair_images:,}", number(network.before, 2)]
    return cells + [_accuracies(network, name) for name in recipes]


def _accuracies(network: MeasuredNetwork, recipe: str) -> str:
    """`91.62, 91.79`, by seed; what does not count in brackets."""
    runs = [run for run in network.runs if run.recipe == recipe]
    runs.sort(key=lambda run: (run.seed is None, run.seed or 0))
    return ", ".join(f"({run.accuracy:.2f})" if run.left_out else f"{run.accuracy:.2f}" for run in runs) or NOTHING


def remarks(study: Study) -> list[str]:
    """What does not count and why, and notes on networks, a line each."""
    everyone = in_order(study)
    lines = [
        f"{_named(network)}, {study.recipes[run.recipe].title}, {_seed(run)}: {run.accuracy:.2f} % is left out of "
        f"means: {run.left_out}"
        for network in everyone
        for run in network.runs
        if run.left_out
    ]
    lines += [f"{_named(network)}: {network.note}" for network in everyone if network.note]
    return [f"- {sentence(line)}" for line in lines]


def _seed(run: Run) -> str:
    return "seed not recorded" if run.seed is None else f"seed {run.seed}"


def _named(network: MeasuredNetwork) -> str:
    ours = network.chosen_by == "original" and network.compiler == "loopmorph"
    return "the original" if ours else network.name


def choice_sentences(study: Study, recipe: str) -> list[str]:
    """Whether a joint choice is better than each other choice that was asked for the same speed, or has it.

    Networks are compared that were repaired on equally many images.
    """
    deviation = study.deviation(recipe)
    lines = []
    for joint in in_order(study):
        if joint.chosen_by != "joint" or joint.after(recipe) is None:
            continue
        words = [_compared(joint, other, recipe, deviation) for other in _rivals(study, joint, recipe)]
        lost = study.lost(joint, recipe)
        speed = "" if joint.speedup is None else f" ({joint.speedup:.2f} times as fast)"
        start = f"{joint.name}{speed} loses {number(lost, 2)} points"
        lines.append(f"- {sentence(start + (': it is ' + '; '.join(words) if words else ''))}")
    return lines


def _rivals(study: Study, joint: MeasuredNetwork, recipe: str) -> list[MeasuredNetwork]:
    return [
        each
        for each in in_order(study)
        if each.chosen_by not in ("joint", "original")
        and (each.target == joint.target or _is_near(each, joint))
        and each.repair_images == joint.repair_images
        and each.after(recipe) is not None
    ]


def _is_near(network: MeasuredNetwork, other: MeasuredNetwork) -> bool:
    if network.speedup is None or other.speedup is None:
        return False
    return abs(network.speedup / other.speedup - 1) <= _NEAR


def _compared(joint: MeasuredNetwork, other: MeasuredNetwork, recipe: str, deviation: float | None) -> str:
    ours, theirs = joint.accuracies(recipe), other.accuracies(recipe)
    difference = (joint.after(recipe) or 0.0) - (other.after(recipe) or 0.0)
    what = CHOICES[other.chosen_by] + (f" {other.detail}" if other.detail else "")
    speed = "" if other.speedup is None else f" ({other.speedup:.2f} times as fast)"
    if deviation is not None:
        error = deviation * (1 / len(ours) + 1 / len(theirs)) ** 0.5
        if abs(difference) <= _ERRORS * error:
            return f"not told apart from {what}{speed}, {difference:+.2f}"
    return f"{abs(difference):.2f} points {'better' if difference > 0 else 'worse'} than {what}{speed}"


def front_sentence(study: Study, recipe: str) -> str:
    """The networks that no other one of the study is better than in both speed and mean accuracy."""
    timed = [each for each in study.networks if each.speedup is not None and each.after(recipe) is not None]
    front: list[MeasuredNetwork] = []
    for network in sorted(timed, key=lambda each: (-(each.speedup or 0.0), -(each.after(recipe) or 0.0))):
        if not front or (network.after(recipe) or 0.0) > (front[-1].after(recipe) or 0.0):
            front.append(network)
    if not front:
        return "No network was both trained and timed."
    told = [
        f"{each.name} ({number(each.speedup, 2)} times, {number(each.after(recipe), 2)} %)" for each in reversed(front)
    ]
    return f"No other network is better in both speed and mean accuracy than {listed(told)}."


def seeds_sentence(study: Study, recipe: str) -> str:
    """How many networks were trained how often."""
    counts = [len(found) for each in in_order(study) if (found := each.accuracies(recipe))]
    often, twice = sum(count > 2 for count in counts), sum(count == 2 for count in counts)
    return f"Of {len(counts)} networks {often} have three seeds that count, {twice} have two, the others one."


def fastest_within(study: Study, recipe: str, choice: str, allowed: float = ALLOWED) -> MeasuredNetwork | None:
    """The fastest network of a choice that was timed and has lost at most so many points; None where there is none."""
    found = [
        network
        for network in study.networks
        if network.chosen_by == choice
        and network.speedup is not None
        and (lost := study.lost(network, recipe)) is not None
        and lost <= allowed
    ]
    return max(found, key=lambda network: network.speedup or 0.0, default=None)


def setting_lines(study: Study, name: str) -> list[str]:
    """Under what a study was made, and what made it."""
    about = study.provenance
    threads = None if about.threads is None else f"{about.threads} thread{'s' if about.threads > 1 else ''}"
    facts = {
        "data": about.data or None,
        "times on": about.processor and ", ".join(filter(None, [about.processor, threads])),
        "repaired and trained on": about.gpu,
        "versions": ", ".join(f"{key} {value}" for key, value in (about.versions or {}).items()) or None,
        "commit": about.commit or "not recorded",
    }
    told = "; ".join(f"{key} {value}" for key, value in facts.items() if value)
    lines = [f"From [{name}.json](evaluation/{name}.json): {told}.", ""]
    if about.notes:
        lines += [*(f"- {sentence(note)}" for note in about.notes), ""]
    commands = [*about.commands, *_training_commands(study.recipes.values())]
    return [*lines, *code(commands), ""] if commands else lines


def _training_commands(recipes: Iterable[Recipe]) -> list[str]:
    return [f"{each.command}  # {each.title}, {each.epochs} epochs" for each in recipes if each.command]


def missing_choices(study: Study, recipe: str, targets: tuple[float, ...], choices: tuple[str, ...]) -> str:
    """Which choices were not trained at which targets, in one line; empty where all were."""
    told = []
    for choice in choices:
        found = {each.target for each in study.networks if each.chosen_by == choice and each.after(recipe) is not None}
        missing = [f"{target:g}x" for target in targets if target not in found]
        if missing:
            told.append(f"{CHOICES[choice]} at {listed(missing)}")
    return "; ".join(told)
