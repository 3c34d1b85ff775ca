"""`legality`: what signals say of rewrites of one network, side by side, and of one of them layer by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, IllegalTransform, LoopmorphError
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.block_signals import BLOCK_SIGNALS, BlockSignals, split_task
from loopmorph.pipelines.legality.calibration import EARLY_LOSS, Calibration, Prediction, structure_fingerprint
from loopmorph.pipelines.legality.calibration_file import load_calibration, shipped_calibration
from loopmorph.pipelines.legality.joint_signals import JointMeasurement, JointSignals
from loopmorph.pipelines.legality.proxy import Proxy, Score
from loopmorph.pipelines.legality.signals import Setting, build_proxies, parse_signals
from loopmorph.pipelines.legality.size import compression
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.preconditions import check_numbers
from loopmorph.pipelines.search.search_space import RandomDrawer, draw_candidates
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.task import (
    Classification,
    Loss,
    Task,
    count_classes,
    load_inputs,
    make_task,
    training_part,
)

FOR_CANDIDATES = (*BLOCK_SIGNALS, "macs")
FOR_SCHEDULE = (*BLOCK_SIGNALS, "kl", "macs", "params")
_LEAST_IMAGES = 4


@dataclass(frozen=True)
class RewriteScores:
    """What the signals say of one rewrite.

    Attributes:
        steps: its transformations, as pass texts.
        scores: signal -> its value with the standard error over images or, for those at initialisation, over seeds.
        refused: why it could not be measured; empty where it was.
    """

    steps: tuple[str, ...]
    scores: dict[str, Score]
    refused: str = ""


@dataclass(frozen=True)
class LayerFigures:
    """One layer of a rewrite.

    Attributes:
        name: the layer.
        before, after: the relative residual of its output in the whole network, before and after repair; None where it
            was left as it was.
        note: what was out of the ordinary.
    """

    name: str
    before: float | None
    after: float | None
    note: str


@dataclass(frozen=True)
class BlockFigures:
    """One block of a rewrite.

    Attributes:
        path: its module; "" for the whole network.
        scores: signal -> its value for this block alone.
    """

    path: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class WholeFigures:
    """A whole repaired network, not yet fine-tuned.

    Attributes:
        kl: joint KL in nats.
        agreement: the share of held-out images of which it predicts what the original does.
        accuracy_original, accuracy: the shares that are told right.
        images: how many were held out.
        predicted: the loss of accuracy after fine-tuning, in points.
        calibration: what it is predicted by.
        borrowed: whether that was made from a network of another structure.
    """

    kl: Score
    agreement: float
    accuracy_original: float | None
    accuracy: float | None
    images: int
    predicted: Prediction
    calibration: Calibration
    borrowed: bool


@dataclass(frozen=True)
class LegalityResult:
    """What was measured.

    Attributes:
        model: the network's name.
        data: where the images come from.
        images: how many there are; half of them are repaired on, and half are measured.
        seed: of images, candidates and initialisations.
        signals: those that were measured, in the order in which they were asked for.
        missing: signal -> why it cannot be measured of this network on these data.
        doubt: why the signals of repaired networks mean little; empty where they mean something.
        rewrites: a row each.
        interrupted: whether it was stopped before all were measured.
        layers, blocks, whole: of the one schedule that was given; empty, and None, for candidates.
    """

    model: str
    data: str
    images: int
    seed: int
    signals: tuple[str, ...]
    missing: dict[str, str]
    doubt: str
    rewrites: tuple[RewriteScores, ...]
    interrupted: bool = False
    layers: tuple[LayerFigures, ...] = ()
    blocks: tuple[BlockFigures, ...] = ()
    whole: WholeFigures | None = None

    def to_json(self) -> str:
        """JSON with the same names, the calibration by what it was made from; numbers that are not finite are null."""
        return json.dumps(_plain(self), indent=1, allow_nan=False) + "\n"


def legality(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    data: str | Path | Batch | None = None,
    *,
    schedule: str | None = None,
    candidates: int | None = None,
    signals: Sequence[str] | None = None,
    images: int = 256,
    seed: int = 0,
    repeats: int = 1,
    calibration: Calibration | str | Path | None = None,
    loss: Loss | None = None,
    device: str | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> LegalityResult:
    """Measures signals of one rewrite of a trained network, or of random ones.

    Ctrl-C ends the measuring and gives what there is.

    Args:
        model: the network; left as it is.
        example_inputs: one tensor (N, C, H, W).
        data: labelled images (see `load_batch`), or a `Batch`; synthetic ones without.
        schedule: a schedule (transform IR) or a pass pipeline; the result then has figures of each layer, too.
        candidates: how many rewrites of one layer each to draw, where there is no schedule.
        signals: names (see `all_signals` and `TRAINED_SIGNALS`); by default those of blocks and MACs, and for a
            schedule the joint KL and the parameters as well. "early-loss" trains, on the whole of `data`.
        images: how many; one half is repaired on, the other one measured.
        seed: of images, candidates and initialisations.
        repeats: initialisations for the signals that take random weights.
        calibration: what losses are predicted by; the shipped one by default.
        loss: of outputs and targets, where the model gives no logits.
        device: where to compute; None takes a CUDA device when there is one.
        name: the network's name in the result; its class's by default.
        progress: called with a stage's name, steps done and steps in all.

    Raises:
        ArgumentError: an argument out of range or missing; an unknown signal, or, named in `signals`, one that cannot
            be measured; a model that cannot be measured at all.
        DataError: the data or the calibration cannot be read.
        IllegalTransform: the network does not admit the schedule.
        ImportRefused: the model cannot be imported.
    """
    names, known = _checked(schedule, candidates, signals, images, seed, repeats), _loaded(calibration)
    check_numbers(model, example_inputs)
    progress("import", 0, 1)
    original = import_model(model, example_inputs)
    task = _task(original, data, images, seed, loss)
    rewritten = None if schedule is None else original.apply(schedule)
    progress("import", 1, 1)
    with noted_interrupts() as check:
        setting = Setting(task, seed, repeats, device=device, progress=progress)
        measuring = _Measuring.prepared(original, setting, names, signals is not None, None if loss else data)
        drawn = iter([rewritten]) if rewritten is not None else _drawn(original, seed)
        rows, interrupted = measuring.rows(islice(drawn, candidates or 1), candidates or 1, check)
        result = LegalityResult(
            model=name or type(model).__name__,
            data=task.source,
            images=len(task.inputs[0]),
            seed=seed,
            signals=tuple(measuring.proxies),
            missing=measuring.missing,
            doubt=measuring.blocks.doubt,
            rewrites=tuple(rows),
            interrupted=interrupted,
        )
        if rewritten is None or interrupted:
            return result
        return measuring.detailed(result, rewritten, known or shipped_calibration(structure_fingerprint(original)))


@dataclass(frozen=True)
class _Measuring:
    """What measures.

    Attributes:
        original: the network.
        blocks, joint: its signals; `joint` is None where it gives no logits.
        proxies: signal -> what scores by it.
        missing: signal -> why it cannot be measured.
        progress: see `legality`.
    """

    original: Program
    blocks: BlockSignals
    joint: JointSignals | None
    proxies: dict[str, Proxy]
    missing: dict[str, str]
    progress: Progress

    @staticmethod
    def prepared(
        original: Program, setting: Setting, names: Sequence[str], asked: bool, data: str | Path | Batch | None
    ) -> _Measuring:
        """Runs the original.

        Args:
            original: the network.
            setting: without what the original gives.
            names: the signals.
            asked: whether each of them was asked for.
            data: see `legality`; None where another loss is given than that of telling its classes apart.

        Raises:
            ArgumentError: a signal that was asked for cannot be measured, or none can.
            DataError: the data that a network is trained on cannot be read.
        """
        device, progress = setting.device, setting.progress
        progress("original", 0, 1)
        measured, fitted_to = split_task(setting.task)
        blocks = BlockSignals(original, measured, device, fitted_to=fitted_to)
        has_logits = count_classes(original) is not None
        joint = JointSignals(original, measured, fitted_to, device) if has_logits else None
        progress("original", 1, 1)
        missing = {name: blocks.missing[name] for name in names if name in blocks.missing}
        if joint is None:
            missing |= {name: "the model gives no logits (N, classes)" for name in names if name in ("kl", EARLY_LOSS)}
        elif EARLY_LOSS in names and (data is None or isinstance(data, Batch)):
            missing[EARLY_LOSS] = "it trains to tell the classes of a whole data set apart, which is given by its path"
        if asked and missing:
            name, why = next(iter(missing.items()))
            raise ArgumentError("signals", f"'{name}' cannot be measured: {why}")
        there = [name for name in names if name not in missing]
        train = None
        if EARLY_LOSS in there and isinstance(data, str | Path):
            train = training_part(original, data, setting.seed, progress)
        proxies = build_proxies(there, replace(setting, blocks=blocks, joint=joint, train=train))
        return _Measuring(original, blocks, joint, proxies, missing, progress)

    def rows(self, drawn: Iterator[Program], count: int, check: Callable[[], None]) -> tuple[list[RewriteScores], bool]:
        """The scores of some rewrites, and whether an interrupt ended it."""
        found: list[RewriteScores] = []
        try:
            self.progress("signals", 0, count)
            for program in drawn:
                found.append(self._row(program))
                self.progress("signals", len(found), count)
                check()
        except KeyboardInterrupt:
            return found, True
        return found, False

    def _row(self, program: Program) -> RewriteScores:
        try:
            scores = {name: proxy.score(program) for name, proxy in self.proxies.items()}
        except LoopmorphError as error:
            return RewriteScores(program.steps, {}, str(error))
        return RewriteScores(program.steps, scores)

    def detailed(self, result: LegalityResult, program: Program, calibration: Calibration) -> LegalityResult:
        """With the figures of layers, of blocks and of the whole."""
        if result.rewrites[0].refused:
            raise IllegalTransform("schedule", f"the result cannot be measured: {result.rewrites[0].refused}")
        changes = self.blocks.measure(program).blocks
        blocks = [BlockFigures(c.path, {n: s for n in BLOCK_SIGNALS if (s := c.score(n)) is not None}) for c in changes]
        if self.joint is None:
            repaired = [layer for change in changes for layer in change.layers]
            whole = None
        else:
            joint = self.joint.measure(program, self.progress)
            repaired, whole = list(joint.layers), self._whole(joint, program, calibration)
        layers = tuple(LayerFigures(each.name, each.before, each.after, each.note) for each in repaired)
        return replace(result, layers=layers, blocks=tuple(blocks), whole=whole)

    def _whole(self, joint: JointMeasurement, program: Program, calibration: Calibration) -> WholeFigures:
        measured = {"kl": joint.kl.value, "compression": compression(self.original, program)}
        return WholeFigures(
            joint.kl,
            joint.agreement,
            joint.accuracy_original,
            joint.accuracy,
            joint.images,
            calibration.predict(measured),
            calibration,
            not calibration.fits(structure_fingerprint(self.original)),
        )


def _checked(
    schedule: str | None,
    candidates: int | None,
    signals: Sequence[str] | None,
    images: int,
    seed: int,
    repeats: int,
) -> tuple[str, ...]:
    """The names of the signals."""
    if (schedule is None) == (candidates is None):
        raise ArgumentError("schedule", "expected either a schedule or a number of candidates")
    for what, count in (("candidates", 1 if candidates is None else candidates), ("repeats", repeats)):
        check_count(what, count)
    check_count("images", images)
    if images < _LEAST_IMAGES:
        raise ArgumentError("images", f"{images} were asked for; at least {_LEAST_IMAGES} are needed, half held out")
    check_seed(seed)
    if signals is None:
        return FOR_CANDIDATES if schedule is None else FOR_SCHEDULE
    return parse_signals(",".join(signals), trained=True)


def _loaded(calibration: Calibration | str | Path | None) -> Calibration | None:
    return load_calibration(calibration) if isinstance(calibration, str | Path) else calibration


def _task(original: Network, data: str | Path | Batch | None, images: int, seed: int, loss: Loss | None) -> Task:
    """The minibatch; of a network that gives no logits, without a loss for them, images without labels."""
    if loss is None and count_classes(original) is None:
        (batch,) = load_inputs(original, data, images, seed)
        where = data.source if isinstance(data, Batch) else data or "synthetic images: no --data was given"
        task: Task = Classification(Batch(batch, None, 0, f"{where}, without labels"))
    else:
        task = make_task(original, data, images, seed, loss)
    (batch,), (example,) = task.inputs, original.example_inputs
    if batch.shape[1:] != example.shape[1:]:
        given, taken = tuple(batch.shape[1:]), tuple(example.shape[1:])
        raise ArgumentError("data", f"its images are {given} (C, H, W); the network takes {taken}")
    return task


def _drawn(original: Program, seed: int) -> Iterator[Program]:
    """Distinct rewrites with one network-changing step."""
    seen: set[str] = set()
    for candidate in draw_candidates(original, seed, RandomDrawer(original, native_target())):
        if candidate.neural is None or candidate.refusal is not None or str(candidate.neural) in seen:
            continue
        seen.add(str(candidate.neural))
        yield original.after([candidate.neural])


def _plain(value: Any) -> Any:
    """What JSON can hold of a result."""
    if isinstance(value, Calibration):
        return _plain(value.provenance)
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
