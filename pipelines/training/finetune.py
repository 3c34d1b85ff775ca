"""Fine-tuning: a short training of a network that has weights already, the same for every network that is compared."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import threading
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.data.labelled_images import LabelledImages
from loopmorph.pipelines.support.devices import lay_out, resolve_device, seeded, sent
from loopmorph.pipelines.support.digests import elements_of
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.inference import switch_to_inference, switch_to_training
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent
from loopmorph.pipelines.training.augmentation import mixed, shifted_and_flipped, squares
from loopmorph.pipelines.training.checkpoint import read_checkpoint, write_checkpoint
from loopmorph.pipelines.training.distillation import Objective, Teacher, label_loss
from loopmorph.pipelines.training.processes import Processes
from loopmorph.pipelines.training.recipe import ADAMW, FineTuning

EARLY = 10, 60  # the steps whose mean loss is `early_loss`: the first ones say more of the restart than of the network


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned network.

    Attributes:
        model: the network, on the CPU, in inference form.
        early_loss: mean loss of the steps `EARLY`, of those that there were; None where there were none.
        loss: of the last step.
        steps: that were taken.
    """

    model: nn.Module
    early_loss: float | None
    loss: float
    steps: int


class Diverged(ArgumentError):
    """The loss ceased to be a number: with this learning rate the network cannot be trained."""


def finetune(
    model: nn.Module,
    train: LabelledImages,
    settings: FineTuning | None = None,
    *,
    steps: int | None = None,
    objective: Objective | None = None,
    teacher: Teacher | None = None,
    device: torch.device | str | Processes | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 30.0,
    progress: Progress = silent,
) -> FineTuned:
    """Trains a copy of a network on labelled images.

    Every draw is a function of the seed and of the number of the epoch or step, so that a run that goes on from a
    checkpoint gives what it would have given without a break, on the same machine and with as many threads. On CUDA it
    computes in bfloat16 where autocast has it; weights stay float32.

    With several processes (see `training_processes`), all call this with the same arguments; each computes its share of
    every batch, with BatchNorm's statistics of that share, and all return the same network. How their gradients are
    summed is PyTorch's affair, which may differ in the last bits between runs where there are more than two.

    Args:
        model: takes (N, C, H, W) and gives logits (N, classes), or what `objective` takes; left as it is.
        train: the images.
        settings: see `FineTuning`.
        steps: takes no more than so many, with the learning rates that they have in the whole run; None for all.
        objective: the loss; cross-entropy of logits, with smoothed labels, by default. A checkpoint does not know it.
            It is given labels (N,); with `settings.mixed` there can be none.
        teacher: whose outputs count as well (see `Teacher`).
        device: where to compute; None takes a CUDA device when there is one. Or the processes that train together.
        checkpoint: a file that is written every `checkpoint_seconds` and at the end; where it is there, training goes
            on from it. A kill loses what came after the last one; an interrupt nothing: it ends the training, with a
            checkpoint, after the step that is under way, and a second one at once.
        checkpoint_seconds: see `checkpoint`.
        progress: called with "train", the steps done and the steps to take.

    Raises:
        ArgumentError: settings out of range, no such device, a model that does not take the images.
        Diverged: the loss is not finite.
        KeyboardInterrupt: it was interrupted.
        DataError: the checkpoint is damaged, of another run, or has more than `steps`.
    """
    chosen = settings or FineTuning()
    chosen.check()
    if steps is not None:
        check_count("steps", steps)
    if not len(train):
        raise ArgumentError("train", "there is no image to train on")
    if teacher is not None:
        teacher.check()
    if chosen.mixed and objective is not None:
        reason = f"expected 0 beside an objective, whose labels cannot be mixed, got {chosen.mixed}"
        raise ArgumentError("mixed", reason)
    processes = device if isinstance(device, Processes) else Processes(0, 1, resolve_device(device))
    path = None if checkpoint is None else Path(checkpoint)
    interrupted = threading.Event()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _repeatable(),
        noted_interrupts(None if path is None else interrupted.set),
        ExitStack() as taught,
    ):
        labels = objective or label_loss(chosen.label_smoothing)
        run = _start(model, train, chosen, labels, teacher, processes, taught)
        if path is not None and path.exists():
            run.restore(read_checkpoint(path, run.key))
        if processes.mean(run.step) != run.step:
            raise DataError(f"{path}: is not the same file for all processes")
        last = run.steps if steps is None else min(steps, run.steps)
        if run.step > last:
            raise DataError(f"{path}: has {run.step} steps of this training; at most the {last} asked for are expected")
        written = time.monotonic()
        progress("train", run.step, last)
        while run.step < last:
            run.advance()
            ending = processes.mean(interrupted.is_set()) > 0  # all of them, after the same step
            due = time.monotonic() - written >= checkpoint_seconds or run.step == last or ending
            if path is not None and due and processes.rank == 0:
                write_checkpoint(path, run.key, run.state())
                written = time.monotonic()
            progress("train", run.step, last)
            if ending:
                raise KeyboardInterrupt
        processes.settle(run.model)
    early = sum(run.early) / len(run.early) if run.early else None
    lay_out(run.model, torch.contiguous_format)
    return FineTuned(switch_to_inference(run.model.cpu()), early, run.loss, run.step)


def _repeatable() -> AbstractContextManager[None]:
    """The same kernels each time on CUDA, so that a run that goes on gives what it would have given."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)


@dataclass
class _Run:
    """A training under way.

    Attributes:
        model: in train mode, on the device.
        forward: the same, or what joins it with those of the other processes.
        train: its images lie on the device.
        key: of all that the training depends on.
        steps: in all.
        layout: the order in memory of images and weights.
        step: steps done.
        loss: of the last step.
        early: the losses of the steps `EARLY`.
        ahead: the batch of the next step, where it is there already.
    """

    model: nn.Module
    forward: nn.Module
    train: LabelledImages
    settings: FineTuning
    objective: Objective
    processes: Processes
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    key: str
    steps: int
    layout: torch.memory_format
    step: int = 0
    loss: float = math.nan
    early: list[float] = field(default_factory=list)
    ahead: tuple[torch.Tensor, torch.Tensor] | None = None

    def advance(self) -> None:
        """Takes one step.

        Raises:
            ArgumentError: the model fails on the images.
            Diverged: the loss is not finite.
        """
        images, labels = self.ahead or self._batch(self.step)
        seed = _derived(self.settings.seed, self.processes.own("network"), self.step)
        with seeded(seed, self.processes.device), self._arithmetic():
            loss = self._loss(images, self._outputs(images), labels)
        self.optimiser.zero_grad(set_to_none=True)
        self._differentiate(loss)
        if self.settings.gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_norm)
        self.optimiser.step()
        self.schedule.step()
        # Nothing waits for the device until the next batch is made, which then is while the device computes.
        self.ahead = self._batch(self.step + 1) if self.step + 1 < self.steps else None
        self.loss = self.processes.mean(float(loss.detach()))
        if not math.isfinite(self.loss):
            rate = f"with learning_rate={self.settings.learning_rate:g} the loss is {self.loss}"
            raise Diverged("learning_rate", f"{rate} at step {self.step + 1} of {self.steps}; a smaller one is needed")
        if EARLY[0] <= self.step < EARLY[1]:
            self.early.append(self.loss)
        self.step += 1

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "loss": self.loss,
            "early": self.early,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.loss, self.early = state["step"], state["loss"], state["early"]
        self.ahead = None

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This process's images of a step, as the network takes them, and their labels, where mixed (N, classes)."""
        size = min(self.settings.batch_size, len(self.train))
        epoch, place = divmod(step, len(self.train) // size)
        order = _order(len(self.train), self.settings.seed, epoch)
        chosen = order[place * size : (place + 1) * size][self.processes.share(size)]
        draws = _generator(self.settings.seed, self.processes.own("step"), step)
        images = shifted_and_flipped(self.train.images, chosen, self.settings.padding, self.settings.flip, draws)
        normalised = self.train.normalised(images).to(memory_format=self.layout)
        if self.settings.erased:
            normalised = normalised * sent(~squares(normalised.shape, self.settings.erased, draws), normalised.device)
        labels = self.train.labels[sent(chosen, self.processes.device)]
        if self.settings.mixed:
            return mixed(normalised, labels, self.train.classes, self.settings.mixed, draws)
        return normalised, labels

    def _outputs(self, images: torch.Tensor) -> Any:
        try:
            return self.forward(images)
        except Exception as error:  # the user's own forward may raise anything
            reason = f"in train mode it fails on a batch of shape {tuple(images.shape)}: {describe(error)}"
            raise ArgumentError("model", reason) from error

    def _loss(self, images: torch.Tensor, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        try:
            loss = self.objective(images, outputs, labels)
        except ArgumentError:
            raise
        except Exception as error:  # outputs that are no logits, labels that are no classes
            raise ArgumentError("model", f"the loss cannot be computed from its outputs: {describe(error)}") from error
        if loss.numel() != 1 or not loss.requires_grad:
            raise ArgumentError("model", "the loss is not one number that depends on the trained parameters")
        return loss.reshape(())

    def _differentiate(self, loss: torch.Tensor) -> None:
        try:
            loss.backward()
        except Exception as error:  # an in-place operation of the user's own forward, or no memory
            raise ArgumentError("model", f"its gradients cannot be computed: {describe(error)}") from error

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.processes.device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


def _start(
    model: nn.Module,
    train: LabelledImages,
    settings: FineTuning,
    objective: Objective,
    teacher: Teacher | None,
    processes: Processes,
    taught: ExitStack,
) -> _Run:
    device = processes.device
    twin = switch_to_training(copy.deepcopy(model)).to(device)
    networks = [twin] if teacher is None else [twin, *teacher.networks]
    image = train.normalised(train.images[:1])
    layout = _layout(networks, image)
    lay_out(twin, layout)
    trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    if not trained:
        raise ArgumentError("model", "it has no parameter that requires a gradient; there is nothing to train")
    optimiser = _optimiser(trained, settings)
    steps = settings.epochs * (len(train) // min(settings.batch_size, len(train)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps, pct_start=settings.warm_up, cycle_momentum=False
    )
    key = training_key(model, train, settings, teacher, processes.count)
    placed = replace(train, images=train.images.to(device), labels=train.labels.to(device))
    loss = objective
    if teacher is not None:
        loss = taught.enter_context(teacher.objective(objective, twin, image, device))
    return _Run(
        twin, processes.joined(twin), placed, settings, loss, processes, optimiser, schedule, key, steps, layout
    )


def _optimiser(trained: list[nn.Parameter], settings: FineTuning) -> torch.optim.Optimizer:
    decayed, others = ([p for p in trained if (p.dim() > 1) == matrices] for matrices in (True, False))
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, settings.weight_decay), (others, 0.0))
        if parameters
    ]
    if settings.optimiser == ADAMW:
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True)


def _layout(networks: list[nn.Module], images: torch.Tensor) -> torch.memory_format:
    """Channels last, which is faster, unless a network does not run on that (`x.view` of activations does not)."""
    last = images.cpu().to(memory_format=torch.channels_last)
    for network in networks:
        twin = switch_to_inference(copy.deepcopy(network)).cpu()
        lay_out(twin, torch.channels_last)
        try:
            with torch.no_grad():
                twin(last)
        except Exception:  # what else is wrong with it is told where it is trained
            return torch.contiguous_format
    return torch.channels_last


def training_key(
    model: nn.Module, train: LabelledImages, settings: FineTuning, teacher: Teacher | None = None, processes: int = 1
) -> str:
    """What identifies a training: the settings, the weights that it begins with, the images, teacher and processes."""
    digest = hashlib.sha256(f"{settings.describe()} {train.mean} {train.deviation}".encode())
    tensors = [*model.state_dict().items(), ("images", train.images), ("labels", train.labels)]
    if processes > 1:
        digest.update(f" {processes} processes".encode())
    if teacher is not None:
        digest.update(f" {teacher.describe()}".encode())
        tensors += teacher.whole.state_dict().items()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(elements_of(tensor))
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The images' order in an epoch, (count,) int64."""
    return torch.randperm(count, generator=_generator(seed, "epoch", epoch))


def _generator(seed: int, what: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(_derived(seed, what, number))


def _derived(seed: int, what: str, number: int) -> int:
    """A seed of its own for each epoch and each step, so that no state of a generator has to be kept."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{what}/{number}".encode()).digest()[:7], "little")
