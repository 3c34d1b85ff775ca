"""What `optimize`, `finetune`, `bench` and `operators` write, read as parts of a study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.evaluation.study import MeasuredNetwork, Provenance, Recipe, SearchCost, Section, Study
from loopmorph.pipelines.rewritten.fields import Fields
from loopmorph.pipelines.support.json_file import read_json

_REPORT = (
    *("model", "data", "threads", "baseline_ms", "optimized_ms", "speedup", "macs_before", "macs_after"),
    *("parameters_before", "parameters_after", "kl", "accuracy_original", "accuracy_repaired"),
    *("seconds_total", "candidates", "joint"),
)
_TRIAL = ("transforms", "predicted_ms", "kl", "accuracy", "milliseconds")
_JOINT = ("target_speedup", "chosen", "variants", "original_ms", "baselines", "trials")
_TRAINING = ("data", "gpu", "versions", "settings", "teacher_settings", "after")
_SETTINGS = ("epochs", "batch_size", "learning_rate", "seed")
_BENCH = ("model", "cpu", "results")
_OPERATORS = ("model", "cpu", "threads", "algorithm", "layers")
_DIGITS = 4  # of accuracies, in points


@dataclass(frozen=True)
class FromReport:
    """A network that `optimize` found, or tried.

    Attributes:
        network: it.
        original: what it was made from.
        provenance: its setting.
        pipeline: what was done to the original; empty where the report does not say.
    """

    network: MeasuredNetwork
    original: MeasuredNetwork
    provenance: Provenance
    pipeline: str


@dataclass(frozen=True)
class Training:
    """One training that `finetune` or `train` has reported.

    Attributes:
        recipe_name, recipe: how it was done.
        seed: of it.
        accuracy: afterwards, in points.
        gpu: what it was done on; None for a processor.
        versions: of what was used.
    """

    recipe_name: str
    recipe: Recipe
    seed: int
    accuracy: float
    gpu: str | None
    versions: Mapping[str, str]


def from_report(path: Path, processor: str, baseline: str | None = None, name: str | None = None) -> FromReport:
    """The network of a `report.json`, or one of the baselines that it was compared with.

    Args:
        path: of the report.
        processor: that its times are of.
        baseline: the name of a baseline of a joint choice; None for the network that was chosen.
        name: of the network in the study; None for one that says what it is.

    Raises:
        DataError: it is no report of `optimize`.
        ArgumentError: it has no such baseline.
    """
    report = _report(path)
    joint = None if report.content["joint"] is None else _picked(f"{path}: joint", report.content["joint"], _JOINT)
    original = MeasuredNetwork(
        name="original",
        chosen_by="original",
        ms=report.content["baseline_ms"],
        macs=report.integer("macs_before"),
        parameters=report.integer("parameters_before"),
        before=_rounded(report.content["accuracy_original"]),
    )
    about = Provenance(network_of(report), report.text("data"), processor, report.integer("threads"))
    if baseline is not None:
        network, pipeline = _baseline(path, joint, baseline, name)
        return FromReport(network, original, about, pipeline)
    network, pipeline = _chosen(path, report, joint, name)
    return FromReport(network, original, about, pipeline)


def _chosen(path: Path, report: Fields, joint: Fields | None, name: str | None) -> tuple[MeasuredNetwork, str]:
    chosen = None if joint is None else _picked(f"{path}: joint.chosen", joint.content["chosen"], _TRIAL)
    target = None if joint is None else joint.content["target_speedup"]
    choice = "greedy" if joint is None else "joint"  # without a table, layer by layer
    network = MeasuredNetwork(
        name=name or _name(target, choice),
        chosen_by=choice,
        target=target,
        speedup=report.content["speedup"],
        ms=report.content["optimized_ms"],
        predicted_ms=None if chosen is None else chosen.content["predicted_ms"],
        macs=report.integer("macs_after"),
        parameters=report.integer("parameters_after"),
        kl=report.content["kl"],
        before=_rounded(report.content["accuracy_repaired"]),
    )
    return network, "" if chosen is None else ",".join(chosen.texts("transforms"))


def _baseline(path: Path, joint: Fields | None, baseline: str, name: str | None) -> tuple[MeasuredNetwork, str]:
    there = {} if joint is None else joint.content["baselines"]
    if joint is None or baseline not in there:
        known = ", ".join(f"'{each}'" for each in there) or "none"
        raise ArgumentError("baseline", f"{path} has no baseline '{baseline}'; there are {known}")
    trial = _picked(f"{path}: joint.baselines['{baseline}']", there[baseline], _TRIAL)
    choice, _, detail = re.sub(r"^random \d+$", "random", baseline).partition(" ")
    target, ms = joint.content["target_speedup"], trial.content["milliseconds"]
    network = MeasuredNetwork(
        name=name or _name(target, baseline),
        chosen_by=choice,
        detail=detail,
        target=target,
        speedup=None if ms is None else joint.positive("original_ms") / ms,
        ms=ms,
        predicted_ms=trial.content["predicted_ms"],
        kl=trial.content["kl"],
        before=_rounded(trial.content["accuracy"]),
    )
    return network, ",".join(trial.texts("transforms"))


def _name(target: float | None, choice: str) -> str:
    return choice if target is None else f"{target:g}x {choice}"


def search_of(path: Path, cores: int) -> SearchCost:
    """What the search of a `report.json` took.

    Raises:
        DataError: it is no report of `optimize`.
    """
    report = _report(path)
    joint = report.content["joint"]
    what, candidates = network_of(report), report.integer("candidates", least=0)
    if joint is not None:
        chosen = _picked(f"{path}: joint", joint, _JOINT)
        target = chosen.content["target_speedup"]
        asked = "as fast as it can be" if target is None else f"{target:g} times as fast"
        what, candidates = f"{what}, {asked}", chosen.integer("variants") + len(chosen.sequence("trials"))
    return SearchCost(what, report.positive("seconds_total"), candidates, cores)


def training_of(path: Path, recipe_name: str | None = None) -> Training:
    """What `finetune --json` or `train --json` wrote.

    Args:
        path: of the file.
        recipe_name: what the study calls how it was done; None for "teacher" or "labels".

    Raises:
        DataError: it is no such file.
    """
    told = _picked(str(path), read_json(path), _TRAINING)
    settings = _picked(f"{path}: settings", told.content["settings"], _SETTINGS)
    after = _picked(f"{path}: after", told.content["after"], ("right", "images"))
    taught = told.content["teacher_settings"]
    epochs, batch, rate = settings.integer("epochs"), settings.integer("batch_size"), settings.positive("learning_rate")
    title = "labels alone" if taught is None else f"with a teacher ({told.text('teacher_settings')})"
    teacher = "" if taught is None else " --teacher WEIGHTS.pt"
    command = f"loopmorph finetune model.pt --data DATA{teacher} --epochs {epochs} --batch-size {batch}"
    return Training(
        recipe_name or ("labels" if taught is None else "teacher"),
        Recipe(title, epochs, f"{command} --learning-rate {rate:g} -o tuned.pt"),
        settings.integer("seed", least=-(2**63), most=2**63 - 1),
        round(100 * after.integer("right", least=0) / after.integer("images"), _DIGITS),
        None if told.content["gpu"] is None else told.text("gpu"),
        told.content["versions"],
    )


def result_study(path: Path, section: Section, processor: str | None = None) -> Study:
    """A study of what `bench --json` ("engines") or `operators --json` ("operators") wrote.

    Args:
        path: of the file.
        section: which of the two.
        processor: what the times are of; None for what the file says.

    Raises:
        DataError: it is no such file.
    """
    content = read_json(path)
    told = _picked(str(path), content, _BENCH if section == "engines" else _OPERATORS)
    threads = None if section == "engines" else told.integer("threads")
    about = Provenance(network_of(told), "", processor or told.text("cpu"), threads)
    return Study(section, about, {}, result=content)


def _report(path: Path) -> Fields:
    return _picked(str(path), read_json(path), _REPORT)


def network_of(told: Fields) -> str:
    """The network's name; of one given by a file the file's alone, since its folder means nothing elsewhere."""
    given = told.text("model")
    return Path(given).stem if "/" in given else given


def _picked(where: str, content: Any, names: Any) -> Fields:
    """Some fields of a dictionary that may have more."""
    kept = {name: content[name] for name in names if name in content} if isinstance(content, dict) else content
    return Fields.of(where, kept, names)


def _rounded(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(accuracy, _DIGITS)
