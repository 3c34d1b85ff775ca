"""Signals of a trained network's rewrites, block by block: each rewritten block is repaired by itself and compared.

One forward and one backward pass of the original serve all rewrites; a rewrite costs the repair of the blocks that it
changes, and, for the KL divergence, the part of the network behind them.

With x what a block is given in the original, a its output, a' that of the rewritten and repaired block on the same x,
and g the gradient of the mean loss at a, on N images (g is scaled as Fisher Potential's, so that the two compare):

    residual        |a' - a|^2 / |a - mean of a's channel|^2
    fisher-change   1/(2N) sum_n ( sum_cij (a' - a)_ncij g_ncij )^2, BlockSwap's eq. 2 (Turner et al., ICLR 2020) with
                    the activation's change in the place of the activation, and one sum over all channels; a' = 0 is
                    Fisher pruning (Theis et al., 2018)
    kl-block        KL(softmax of the original's logits || softmax of those with this block replaced), mean over images
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.changed_modules import changed_modules, module_texts
from loopmorph.pipelines.legality.joint_kl import kl_of_images
from loopmorph.pipelines.legality.proxy import Score, mean_score
from loopmorph.pipelines.legality.recording import CHUNK, add_gradients, record, run_from
from loopmorph.pipelines.legality.trained import is_trained
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.repair.block import record_block, repair_block
from loopmorph.pipelines.oracle.repair.recorded import RecordedRun, RecordedRuns
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.support.blocks import find_blocks
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.module_paths import is_inside, is_within, outermost
from loopmorph.pipelines.training.task import Classification, Task, UserTask

RESIDUAL, FISHER_CHANGE, KL_BLOCK = "residual", "fisher-change", "kl-block"
BLOCK_SIGNALS = (RESIDUAL, FISHER_CHANGE, KL_BLOCK)
_MEMORY = 6 << 30  # bytes of what blocks are given and give, and of gradients there
QUICK = FitSettings(ridges=(1e-3, 1e-2, 1e-1, 1.0, 1e1), rows=2)  # to compare candidates, not to keep the weights


@dataclass(frozen=True)
class BlockChange:
    """What a rewrite did to one block.

    Attributes:
        path: the block's module; "" where only the whole network has the inputs and outputs that it had.
        values: signal -> (N,) float64, what each image says; the signal is their mean. Infinite where the block
            overflows. Those that cannot be measured are missing.
        layers: what repair did to the block's layers.
    """

    path: str
    values: Mapping[str, torch.Tensor]
    layers: tuple[LayerRepair, ...]

    def score(self, signal: str) -> Score | None:
        """A signal of this block with its standard error over images; None where it cannot be measured."""
        return None if signal not in self.values else mean_score(self.values[signal])


@dataclass(frozen=True)
class BlockMeasurement:
    """What a rewrite did to a network, block by block.

    Attributes:
        blocks: those that it changed, in the order of the network; none where it changed nothing.
        scores: signal -> its sum over the blocks, with the standard error over images. 0 where nothing was changed.
        missing: signal -> why it cannot be measured.
        doubt: why the numbers mean little; empty where they mean something.
    """

    blocks: tuple[BlockChange, ...]
    scores: Mapping[str, Score]
    missing: Mapping[str, str]
    doubt: str = ""


class BlockSignals:
    """Measures rewrites of one trained network on one minibatch.

    Args:
        original: the network as imported, with its trained weights.
        task: the minibatch; targets None, where there are no labels.
        device: where to compute; None takes a CUDA device when there is one.
        fitted_to: the inputs, without labels, to which blocks are repaired. By default the first half of the minibatch
            is taken for that, and what is measured is measured on the rest: on images that a block was fitted to it
            would seem better than it is.
        settings: how blocks are repaired.

    Where what blocks are given and give on all these inputs, and the gradients there, would take more than 6 GiB, fewer
    of the inputs are taken.

    Attributes:
        settings: how blocks are repaired.
        missing: signal -> why it cannot be measured of this network and task.
        doubt: why no rewrite's numbers mean much; empty where they mean something.

    Raises:
        ArgumentError: too few images, or ones that the network or the loss does not take.
    """

    def __init__(
        self,
        original: Network,
        task: Task,
        device: torch.device | str | None = None,
        *,
        fitted_to: Sequence[torch.Tensor] | None = None,
        settings: FitSettings = QUICK,
    ) -> None:
        self._original, self.settings = original, settings
        self._place = resolve_device(device)
        self._task, fitted_to = split_task(task) if fitted_to is None else (task, fitted_to)
        self._model = switch_to_inference(copy.deepcopy(original.model)).requires_grad_(False).to(self._place)
        self._texts = module_texts(original)
        self._blocks = outermost(find_blocks(self._model, self._task.inputs[0].to(self._place)))
        names = [n for n, _ in self._model.named_modules() if not any(is_inside(n, b) for b in self._blocks)]
        holding = [n for n in names if any(is_within(layer, n) for layer in self._texts)]
        self._task, fitted_to = self._within_memory(names, fitted_to)
        self._seen = record(self._model, self._placed(self._task.inputs), names)
        self._fitted = record(self._model, self._placed(fitted_to), holding)
        self._usable = {n for n in holding if n in self._seen.modules and self._seen.modules[n].replayable}
        self.missing: dict[str, str] = self._what_is_missing()
        if FISHER_CHANGE not in self.missing:
            add_gradients(self._model, self._seen, self._gradients(), sorted(self._usable))
        self.doubt = self._doubt()
        self._recorded = RecordedRuns()
        self._variations: dict[str, float] = {}
        self._known: dict[tuple[str, ...], BlockChange | None] = {}
        self._outputs: dict[tuple[str, ...], _Outputs | None] = {}  # of the last network alone: they are large

    def measure(self, program: Network, signals: Sequence[str] = BLOCK_SIGNALS) -> BlockMeasurement:
        """What a rewrite does to each block that it changes.

        A block that takes or gives other shapes than it did is measured with the module around it.

        Args:
            program: what transformations made of the original.
            signals: which of `BLOCK_SIGNALS` to measure; "kl-block" costs the most.

        Raises:
            ArgumentError: an unknown signal; a change that reaches the whole of a network that gives no tensor.
            IllegalTransform: a layer has no form in PyTorch, or the network's own code fails with the new shapes.
        """
        unknown = [name for name in signals if name not in BLOCK_SIGNALS]
        if unknown:
            raise ArgumentError("signals", f"'{unknown[0]}' is not known; known are {', '.join(BLOCK_SIGNALS)}")
        wanted = tuple(name for name in BLOCK_SIGNALS if name in signals and name not in self.missing)
        blocks = self._changes(program, wanted)
        nothing = torch.zeros(len(self._task.inputs[0]), dtype=torch.float64)
        totals = {name: sum((block.values[name] for block in blocks), start=nothing) for name in wanted}
        missing = {name: why for name, why in self.missing.items() if name in signals}
        return BlockMeasurement(
            tuple(blocks), {n: mean_score(total) for n, total in totals.items()}, missing, self.doubt
        )

    def _placed(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(x.to(self._place) for x in inputs)

    def _within_memory(
        self, names: Sequence[str], fitted_to: Sequence[torch.Tensor]
    ) -> tuple[Task, tuple[torch.Tensor, ...]]:
        """The minibatch and the inputs to repair on, both without the last ones where all would take too much."""
        one = record(self._model, self._placed([x[:1] for x in self._task.inputs]), names).size
        measured, fitted = len(self._task.inputs[0]), len(fitted_to[0])
        needed = one * (2 * measured + fitted)  # twice: of what is measured there are gradients, too
        if needed <= _MEMORY:
            return self._task, tuple(fitted_to)
        some, others = (max(1, count * _MEMORY // needed) for count in (measured, fitted))
        return _part(self._task, 0, some), tuple(x[:others] for x in fitted_to)

    # -- which blocks

    def _changes(self, program: Network, signals: tuple[str, ...]) -> list[BlockChange]:
        texts = module_texts(program)
        changed = changed_modules(self._texts, texts)
        pending = list(dict.fromkeys(self._block_of(name) for name in changed))
        found: dict[str, BlockChange] = {}
        keys: list[tuple[str, ...]] = []
        while pending:
            path = pending.pop(0)
            if any(is_within(path, other) for other in found):
                continue
            inside = [f"{name}\n{text}" for name, text in texts.items() if is_within(name, path)]
            keys.append((path, *inside))
            change = self._known_change(program, keys[-1], signals)
            if change is None:
                pending.insert(0, self._usable_around(path.rpartition(".")[0]))  # others may be within it
            else:
                found = {other: each for other, each in found.items() if not is_inside(other, path)}
                found[path] = change
        self._outputs = {key: self._outputs[key] for key in keys if key in self._outputs}
        order = [name for name, _ in self._model.named_modules()]
        return sorted(found.values(), key=lambda each: order.index(each.path))

    def _known_change(self, program: Network, key: tuple[str, ...], signals: Sequence[str]) -> BlockChange | None:
        """The change of the block `key[0]`, with what is known of it already; None as for `_repaired`."""
        known = self._known.get(key)
        before = {} if known is None else known.values
        lacking = [name for name in signals if name not in before]
        if key not in self._known or (known is not None and lacking):
            if key not in self._outputs:
                self._outputs[key] = self._repaired(program, key[0])
            found = self._outputs[key]
            self._known[key] = None if found is None else self._measured(key[0], found, before, lacking)
        return self._known[key]

    def _block_of(self, name: str) -> str:
        """The block that a module belongs to: the one around it, or itself."""
        return self._usable_around(next((b for b in self._blocks if is_within(name, b)), name))

    def _usable_around(self, path: str) -> str:
        """The innermost module that can be measured alone, of this one and those around it."""
        while path and path not in self._usable:
            path = path.rpartition(".")[0]
        return path

    # -- one block

    def _repaired(self, program: Network, path: str) -> _Outputs | None:
        """What a rewritten block gives; None where it takes or gives other shapes than the original's."""
        if path not in self._usable:
            reason = "the change reaches the whole network, which takes or gives other than tensors by position"
            raise ArgumentError("model", f"{reason}, so that nothing can be compared")
        recorded = self._recorded.of(path, self._record)
        fitted_to = self._fitted_to(path) if recorded is None else recorded.inputs
        try:
            repaired = repair_block(self._original, program, path, fitted_to, self.settings, recorded)
        except ArgumentError:
            if not path:
                raise
            return None
        seen = self._seen.modules[path]
        with torch.no_grad(), exact_arithmetic():
            after = [repaired.module(*chunk) for chunk in seen.inputs]
        if any(now.shape != then.shape for now, then in zip(after, seen.outputs, strict=True)):
            return None
        return _Outputs(after, repaired.layers)

    def _fitted_to(self, path: str) -> tuple[torch.Tensor, ...]:
        return tuple(map(torch.cat, zip(*self._fitted.modules[path].inputs, strict=True)))

    def _record(self, path: str) -> RecordedRun | None:
        """The original's run; of the whole network none, which would be too large."""
        return record_block(self._original, path, self._fitted_to(path)) if path else None

    def _measured(
        self, path: str, outputs: _Outputs, before: Mapping[str, torch.Tensor], signals: Sequence[str]
    ) -> BlockChange:
        measures = {RESIDUAL: self._residual, FISHER_CHANGE: self._fisher_change, KL_BLOCK: self._kl}
        found = {name: _sound(measures[name](path, outputs.after)) for name in signals}
        return BlockChange(path, {**before, **found}, outputs.layers)

    def _residual(self, path: str, after: Sequence[torch.Tensor]) -> torch.Tensor:
        before = self._seen.modules[path].outputs
        if path not in self._variations:
            self._variations[path] = _variation(before)
        norms = [
            torch.linalg.vector_norm((now - then).flatten(1), dim=1) for now, then in zip(after, before, strict=True)
        ]
        error, total = torch.cat(norms).double().square(), self._variations[path]
        return error * len(error) / total if total > 0 else torch.where(error == 0, 0.0, math.inf)

    def _fisher_change(self, path: str, after: Sequence[torch.Tensor]) -> torch.Tensor:
        seen = self._seen.modules[path]
        each = zip(after, seen.outputs, seen.gradients, strict=True)
        sums = [((now - then) * g).flatten(1).sum(1, dtype=torch.float64) for now, then, g in each]
        return torch.cat(sums).square() / 2

    def _kl(self, path: str, after: Sequence[torch.Tensor]) -> torch.Tensor:
        found = []
        for number, output in enumerate(after):
            logits = run_from(self._model, self._seen, number, path, output)
            found.append(kl_of_images(self._seen.outputs[number], logits))
        return torch.cat(found)

    # -- the original

    def _what_is_missing(self) -> dict[str, str]:
        outputs = self._seen.outputs
        logits = all(isinstance(x, torch.Tensor) and x.dim() == 2 for x in outputs)
        missing = {}
        if not logits:
            missing[KL_BLOCK] = f"the model gives {_described(outputs[0])}, no logits (N, classes)"
        if self._task.targets is None:
            missing[FISHER_CHANGE] = "there are no labels, and without them no loss"
        elif isinstance(self._task, Classification) and not logits:
            missing[FISHER_CHANGE] = f"{missing[KL_BLOCK]}, and there is no loss for that"
        elif not all(isinstance(x, torch.Tensor) for x in outputs):
            missing[FISHER_CHANGE] = "the model gives no tensor"
        return missing

    def _gradients(self) -> list[torch.Tensor]:
        """The loss's gradient at the network's output, in chunks."""
        with torch.enable_grad():
            outputs = torch.cat(self._seen.outputs).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._task.loss(outputs), outputs)
        return list(gradient.split(CHUNK))

    def _doubt(self) -> str:
        outputs = self._seen.outputs
        if not all(bool(x.isfinite().all()) for x in outputs if isinstance(x, torch.Tensor)):
            return "the original gives NaN or infinities"
        if FISHER_CHANGE in self.missing or is_trained(self._original.model, self._task, torch.cat(outputs)):
            return ""
        return "the network is not trained: what is repaired to random weights, and measured beside them, means little"


@dataclass(frozen=True)
class _Outputs:
    """What a repaired block gives for the images that it is measured on, in chunks, and what was done to its layers."""

    after: Sequence[torch.Tensor]
    layers: tuple[LayerRepair, ...]


def _sound(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values.isfinite(), values, math.inf).cpu()


def _variation(chunks: Sequence[torch.Tensor]) -> float:
    """|a - mean|^2, the mean that of each channel, over all images and positions."""
    sums = [torch.stack([_by_channel(x).sum(0), _by_channel(x).square().sum(0)]) for x in chunks]
    count = sum(len(_by_channel(x)) for x in chunks)
    total, squares = torch.stack(sums).sum(0)
    return max(float((squares - total.square() / count).sum()), 0.0)


def _by_channel(x: torch.Tensor) -> torch.Tensor:
    """(N, C, ...) as (N * ..., C) float64."""
    return x.double().flatten(2).transpose(1, 2).flatten(0, 1) if x.dim() > 2 else x.double()


def split_task(task: Task) -> tuple[Task, tuple[torch.Tensor, ...]]:
    """The second half of a minibatch, to measure on, and the inputs of the first, to repair on.

    Raises:
        ArgumentError: fewer than two images.
    """
    count = len(task.inputs[0])
    if count < 2:
        raise ArgumentError("task", f"{count} image was given; at least 2 are needed: one half is repaired on")
    half = count // 2
    fitted_to = tuple(x[:half] for x in task.inputs)
    return _part(task, half, count), fitted_to


def _part(task: Task, begin: int, end: int) -> Task:
    """Some of a minibatch's inputs, with their targets; of a task of an unknown kind all."""
    if not isinstance(task, Classification | UserTask):
        return task
    labels = tree_map_only(torch.Tensor, lambda x: x[begin:end], task.targets)
    return replace(task, batch=replace(task.batch, images=task.batch.images[begin:end], labels=labels))


def _described(output: Any) -> str:
    return f"{tuple(output.shape)}" if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
