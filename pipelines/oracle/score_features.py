"""What the features of an attention's queries and keys are worth to its scores: what bottlenecks on them choose by.

The scores of a head are the sum of one outer product for each feature, q_f k_f^T. Without the features of a set G the
mean square of the scores changes by

    sum over f, g in G of M_fg,    M_fg = E[(q_f . q_g) (k_f . k_g)]

over samples and heads, which share the features that are kept. One feature after the other is given up, the one that
adds least. Queries and keys are taken as the linear layers give them on the inputs: what an original does to them
before it multiplies them (a norm, a rotation) is not seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from loopmorph.passes import marks
from loopmorph.passes.analysis.coupling.class_indices import class_indices
from loopmorph.passes.analysis.coupling.coupling import Coupling
from loopmorph.passes.analysis.dimension_names import FEATURE, HEAD, find_loop
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.support.devices import exact_arithmetic
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference

_SIDES = 2  # queries and keys; which is which makes no difference


@dataclass(frozen=True, eq=False)
class _Side:
    """Where queries or keys are in what a linear layer gives: (heads, features) int64, and the layer's name."""

    layer: str
    index: np.ndarray


@dataclass(eq=False)
class _Scores:
    """The scores of one attention: their two sides, of what has been seen, and the moments M."""

    sides: tuple[_Side, ...]
    seen: dict[int, torch.Tensor] = field(default_factory=dict)
    moments: np.ndarray | None = None

    def note(self, layer: str, output: torch.Tensor) -> None:
        """Takes in (N, tokens, outputs) of a layer; the moments are known once both sides are."""
        for number, side in enumerate(self.sides):
            if side.layer == layer:
                taken = output[..., torch.as_tensor(side.index, device=output.device)].float()
                self.seen[number] = torch.einsum("nthf,nthg->nhfg", taken, taken)
        if len(self.seen) == _SIDES:
            product = (self.seen[0].double() * self.seen[1].double()).sum((0, 1))
            self.moments = product.numpy(force=True) + (0 if self.moments is None else self.moments)
            self.seen.clear()


def feature_losses(
    original: Network, steps: Sequence[Bottleneck], inputs: Sequence[torch.Tensor]
) -> dict[tuple[str, str], np.ndarray]:
    """For bottlenecks on features of queries and keys: what each feature's going adds to the change of the scores.

    Args:
        original: the network as imported.
        steps: bottlenecks; others are left out.
        inputs: the network's inputs, as a batch of any size.

    Returns:
        (layer, iterator) -> float64, (extent,), relative to the scores' mean square. A dimension is left out where the
        two sides of the scores are not told apart, or not given by linear layers over (N, tokens, features).

    Raises:
        ArgumentError: the network fails on the inputs.
    """
    modules = dict(original.model.named_modules())
    found: dict[tuple[str, str], tuple[_Scores, int]] = {}
    for step in steps:
        sides = _sides(original, step, modules) if step.iter == FEATURE else None
        if sides is not None:
            found[step.layer, step.iter] = _Scores(sides), sides[0].index.shape[1] // step.factor
    if found:
        _run(original.model, [scores for scores, _ in found.values()], inputs)
    return {
        dimension: _eliminated(scores.moments, kept)
        for dimension, (scores, kept) in found.items()
        if scores.moments is not None and np.isfinite(scores.moments).all() and scores.moments.sum() > 0
    }


def _run(model: nn.Module, attentions: Sequence[_Scores], inputs: Sequence[torch.Tensor]) -> None:
    model = switch_to_inference(copy.deepcopy(model))
    wanted = {side.layer for scores in attentions for side in scores.sides}

    def note(layer: str, _module: nn.Module, _args: Any, output: torch.Tensor) -> None:
        for scores in attentions:
            if output.dim() == 3:
                scores.note(layer, output)

    modules = [(name, module) for name, module in model.named_modules() if name in wanted]
    hooks = (module.register_forward_hook(partial(note, name)) for name, module in modules)
    try:
        with hooked(hooks), torch.no_grad(), exact_arithmetic():
            model(*inputs)
    except Exception as error:  # the user's own forward may raise anything
        raise ArgumentError("inputs", f"the network fails on them: {describe(error)}") from error


def _sides(original: Network, step: Bottleneck, modules: dict[str, nn.Module]) -> tuple[_Side, ...] | None:
    """The queries and the keys; None where they are not told apart."""
    features = list(_rows(original, step, step.factor, modules))
    heads: dict[str, np.ndarray] = {}
    for layer, row in _rows(original, Bottleneck(step.layer, HEAD, 1), None, modules):
        heads[layer] = np.maximum(heads.get(layer, row), row)
    if len(features) != _SIDES:
        return None
    sides = [_Side(layer, index) for layer, row in features if (index := _index(row, heads.get(layer))) is not None]
    alike = len(sides) == _SIDES and sides[0].index.shape == sides[1].index.shape
    return tuple(sides) if alike else None


def _index(features: np.ndarray, heads: np.ndarray | None) -> np.ndarray | None:
    """Where each feature of each head is in a row of outputs: (heads, features); None where that is not unique."""
    own = np.flatnonzero(features >= 0)
    of_head = np.zeros(len(own), dtype=np.int64) if heads is None else heads[own]
    shape = int(of_head.max()) + 1, int(features[own].max()) + 1
    if (of_head < 0).any() or len(own) != shape[0] * shape[1]:
        return None
    index = np.full(shape, -1, dtype=np.int64)
    index[of_head, features[own]] = own
    return None if (index < 0).any() else index


def _rows(
    original: Network, step: Bottleneck, factor: int | None, modules: dict[str, nn.Module]
) -> Iterator[tuple[str, np.ndarray]]:
    """For linear layers that write along a dimension: for each output the index that it stands for, -1 for none.

    Without a `factor` one index is to be left. Nothing where the dimension is not there, or cannot shrink.
    """
    operation = original.module.operation
    try:
        with operation.context:
            nest, loop = find_loop(operation, step.layer, step.iter)
            coupling = Coupling(operation)
            plan = coupling.shrink(nest, loop, factor or loop.extent or 1)
            axes = class_indices(coupling, plan, nest, loop)
            named = [(marks.parameter_name(memref) or "", axis, rows) for (memref, axis), rows in axes.items()]
    except (ArgumentError, IllegalTransform):
        return
    for name, axis, rows in named:
        layer, _, local = name.rpartition(".")
        if axis == 0 and local == "weight" and isinstance(modules.get(layer), nn.Linear):
            yield from ((layer, row) for row in rows)


def _eliminated(moments: np.ndarray, kept: int) -> np.ndarray:
    """What each feature's going adds, one after the other; those that are kept are judged by what would come next."""
    power, alive = moments.sum(), np.ones(len(moments), dtype=bool)
    losses, worst = np.zeros(len(moments)), 0.0
    while True:
        added = (np.diag(moments) + 2 * moments[:, ~alive].sum(1)) / power
        losses[alive] = np.maximum(worst, added[alive])
        left = np.flatnonzero(alive)
        if len(left) <= kept:
            return losses
        gone = left[np.argmin(added[left])]
        worst = float(losses[gone])
        alive[gone] = False
