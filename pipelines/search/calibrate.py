"""`calibrate`: what fine-tuning leaves of random rewrites of one network, measured, so that others can be predicted."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError, IllegalTransform, LoopmorphWarning
from loopmorph.passes.history import pipeline_text
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.data.labelled_images import LabelledImages, LabelledSets, load_labelled_sets
from loopmorph.pipelines.legality.calibration import (
    EARLY_LOSS,
    LEAST,
    MOST,
    Calibration,
    CalibrationNetwork,
    Provenance,
    structure_fingerprint,
)
from loopmorph.pipelines.legality.calibration_file import save_calibration
from loopmorph.pipelines.legality.joint_kl import joint_kl
from loopmorph.pipelines.legality.size import compression
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import REPAIR
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.calibration_results import CalibrationResults
from loopmorph.pipelines.search.preconditions import check_modes, check_numbers
from loopmorph.pipelines.search.random_networks import draw_networks
from loopmorph.pipelines.support.devices import resolve_device
from loopmorph.pipelines.support.files import check_writable
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count, check_seed
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.accuracy import accuracy, beats_chance
from loopmorph.pipelines.training.finetune import Diverged, FineTuned, finetune, training_key
from loopmorph.pipelines.training.recipe import FineTuning
from loopmorph.pipelines.training.task import Classification, count_classes, image_shape

CHECKPOINT_SECONDS = 30.0
ORIGINAL = ""  # its name among the results
_REPAIRED_BY = f"weights inherited by {REPAIR}"  # what `repaired` does
_REPAIR_IMAGES = 512  # of the training part
_JUDGED_IMAGES = 2000  # of the test part, for the joint KL
_FRUITLESS = 50  # networks in a row that could not be measured


def calibrate(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    data: str | Path | LabelledSets,
    out: str | Path,
    *,
    count: int = 32,
    seed: int = 0,
    settings: FineTuning | None = None,
    device: torch.device | str | None = None,
    name: str | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Rewrites a trained network at random, repairs, measures and fine-tunes each result, and keeps what came of it.

    The original is fine-tuned in the same way; what a network has less than it afterwards is its loss. Signals and
    accuracies are measured on the test part of the data. After each network the results are appended to a file beside
    `out` (`.networks.jsonl`), and a network under training has a checkpoint there, so that a run that was stopped, by
    whatever, goes on when it is called again with the same arguments; also with a greater `count`.

    Args:
        model: a trained classifier of one image input, in float32; left as it is.
        example_inputs: one tensor (N, C, H, W).
        data: a labelled data set (see `load_labelled_sets`).
        out: the file to write, `.json`.
        count: networks, from 3 to 1024; an interval of 90 % needs 9, and good ones 30.
        seed: of the networks and of what is held out.
        settings: how to fine-tune, the seed of it included.
        device: where to train; None takes a CUDA device when there is one.
        name: the network's name in the file; its class's by default.
        progress: called with a stage's name, steps done and steps in all.

    Raises:
        ArgumentError: an argument out of range; a model that is no classifier of images; a network of which too few
            rewrites can be measured; a file that cannot be written.
        Diverged: the original cannot be trained with these settings.
        DataError: the data cannot be read, or the results beside `out` are of another run.
        IllegalTransform: the model has a layer that runs in train mode alone.
        ImportRefused: the model cannot be imported.
    """
    chosen, path = settings or FineTuning(), Path(out)
    _check_arguments(model, example_inputs, path, count, seed, chosen)
    place = resolve_device(device)
    progress("import", 0, 1)
    original = import_model(model, example_inputs)
    progress("import", 1, 1)
    sets = _labelled_sets(original, data, seed, progress)
    _check_modes(model, sets.train)
    about = f"{training_key(original.model, sets.train, chosen)} {seed} {_REPAIRED_BY}"
    key = hashlib.sha256(about.encode()).hexdigest()
    results = CalibrationResults.open(path.with_suffix(".networks.jsonl"), key)
    run = _Run(original, sets, chosen, place, results, count, progress)
    with noted_interrupts() as check:
        run.measure_original(check)
        names = run.measure_networks(draw_networks(original, seed, native_target()), check)
    recipe = f"random neural steps in several layers, seed {seed}; {_REPAIRED_BY}; {chosen.describe()}"
    title = name or type(model).__name__
    provenance = Provenance(title, structure_fingerprint(original), sets.train.source, chosen.epochs, recipe)
    networks = tuple(results.networks[each] for each in names)
    calibration = Calibration(provenance, results.networks[ORIGINAL].accuracy, networks)
    save_calibration(calibration, path)
    return calibration


@dataclass
class _Run:
    """A calibration under way; what it has measured is in `results`."""

    original: Program
    sets: LabelledSets
    settings: FineTuning
    device: torch.device
    results: CalibrationResults
    count: int
    progress: Progress

    @cached_property
    def _repair_images(self) -> torch.Tensor:
        return self.sets.train.normalised(_some(self.sets.train, _REPAIR_IMAGES).images)

    @cached_property
    def _judged_images(self) -> LabelledImages:
        return _some(self.sets.test, _JUDGED_IMAGES)

    @cached_property
    def _accuracy(self) -> float:
        """The original's, before it is fine-tuned."""
        return accuracy(self.original.model, self.sets.test, self.device)

    def measure_original(self, check: Callable[[], None]) -> None:
        """Fine-tunes the original, unless that is done.

        Raises:
            Diverged, ArgumentError: see `finetune`.
        """
        self._warn_untrained()
        if ORIGINAL not in self.results.networks:
            after, _ = self._finetuned(self.original.model, ORIGINAL, 0, check)
            self.results.add(CalibrationNetwork(ORIGINAL, {}, after))
        self._forget(ORIGINAL)

    def measure_networks(self, drawn: Iterator[Program], check: Callable[[], None]) -> list[str]:
        """Measures networks until there are enough; the names of those that could be.

        Raises:
            ArgumentError: too few can be.
        """
        names: list[str] = []
        fruitless = 0
        for network in drawn:
            check()
            name = pipeline_text(network.history)
            if name not in self.results.networks and name not in self.results.refused:
                self._measure(network, name, len(names) + 1, check)
            self._forget(name)
            fruitless = 0 if name in self.results.networks else fruitless + 1
            if fruitless == 0:
                names.append(name)
            if len(names) == self.count or fruitless == _FRUITLESS:
                break
        if len(names) < LEAST:
            reasons = list(self.results.refused.values())
            last = f"; the last one: {reasons[-1]}" if reasons else ""
            raise ArgumentError("model", f"of its rewrites only {len(names)} could be measured{last}")
        if len(names) < self.count:
            text = f"only {len(names)} of {self.count} networks were found that can be drawn and measured"
            warnings.warn(text, LoopmorphWarning, stacklevel=3)
        return names

    def _measure(self, network: Program, name: str, number: int, check: Callable[[], None]) -> None:
        """Repairs, measures and fine-tunes one network; what cannot be is kept as refused."""
        try:
            module = repaired(network, self._repair_images).to_module()
            signals = self._signals(network, module)
            if math.isinf(signals["kl"]):
                self.results.refuse(name, "its outputs overflow")
                return
            after, early_loss = self._finetuned(module, name, number, check)
        except (IllegalTransform, Diverged) as refusal:
            self.results.refuse(name, str(refusal))
        except ArgumentError as error:
            if error.argument != "model":
                raise
            self.results.refuse(name, str(error))
        else:
            early = {} if early_loss is None else {EARLY_LOSS: early_loss}
            self.results.add(CalibrationNetwork(name, {**signals, **early}, after))

    def _signals(self, network: Program, module: nn.Module) -> dict[str, float]:
        drop = self._accuracy - accuracy(module, self.sets.test, self.device)
        return {
            "kl": joint_kl(self.original.model, module, self._judged_images, self.device),
            "drop": max(drop, 0.0),
            "compression": compression(self.original, network),
        }

    def _finetuned(
        self, module: nn.Module, name: str, number: int, check: Callable[[], None]
    ) -> tuple[float, float | None]:
        """The accuracy after fine-tuning, and the early loss; `number` is that among all networks that are trained."""

        def tell(_stage: str, done: int, of: int) -> None:
            check()
            self.progress("finetune", number * of + done, (self.count + 1) * of)

        def tuned() -> FineTuned:
            return finetune(
                module,
                self.sets.train,
                self.settings,
                device=self.device,
                checkpoint=self._checkpoint(name),
                checkpoint_seconds=CHECKPOINT_SECONDS,
                progress=tell,
            )

        try:
            result = tuned()
        except DataError:  # weights that were repaired once more may differ in the last bit from the checkpoint's
            self._forget(name)
            result = tuned()
        return accuracy(result.model, self.sets.test, self.device), result.early_loss

    def _checkpoint(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return self.results.path.with_suffix(f".{digest}.checkpoint")

    def _forget(self, name: str) -> None:
        """Removes the checkpoint of a network whose result is kept."""
        self._checkpoint(name).unlink(missing_ok=True)

    def _warn_untrained(self) -> None:
        if not beats_chance(self._accuracy, self.sets.test):
            what = f"the network tells {self._accuracy:.1f} % of the test images right, no more than chance would"
            text = f"{what}: it is not trained, or takes other inputs, and a calibration of it means little"
            warnings.warn(text, LoopmorphWarning, stacklevel=4)


def repaired(network: Program, images: torch.Tensor) -> Program:
    """The network with weights that make the best of the original's, judged on images as it takes them."""
    return network.inherit(REPAIR, images)


def _some(images: LabelledImages, count: int) -> LabelledImages:
    """As many of the images, or all there are; of all classes, also where they lie class by class."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.part(order[:count])


def _labelled_sets(original: Network, data: str | Path | LabelledSets, seed: int, tell: Progress) -> LabelledSets:
    shape, classes = image_shape(original), count_classes(original)
    if classes is None:
        raise ArgumentError(
            "model", "expected logits (N, classes) from it: losses of accuracy are those of classifiers"
        )
    if not isinstance(data, LabelledSets):
        return load_labelled_sets(data, shape=shape, classes=classes, seed=seed, progress=tell)
    for part in (data.train, data.test):
        if tuple(part.images.shape[1:]) != shape or part.classes != classes:
            given = f"images {tuple(part.images.shape[1:])} of {part.classes} classes"
            raise ArgumentError("data", f"it has {given}; the network takes {shape} and tells {classes} apart")
    return data


def _check_modes(model: nn.Module, train: LabelledImages) -> None:
    some = train.part(torch.arange(min(2, len(train))))
    check_modes(model, Classification(Batch(some.normalised(some.images), some.labels, some.classes, some.source)))


def _check_arguments(
    model: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path,
    count: int,
    seed: int,
    settings: FineTuning,
) -> None:
    settings.check()
    check_count("count", count)
    if not LEAST <= count <= MOST:
        raise ArgumentError("count", f"expected {LEAST} to {MOST} networks, got {count}")
    check_seed(seed)
    if path.suffix != ".json":
        raise ArgumentError("out", f"expected a file name that ends in .json, got '{path}'")
    check_writable("out", path)
    check_numbers(model, example_inputs)
