"""Fisher Potential: how much a network can learn, judged at initialisation from one minibatch.

BlockSwap (Turner et al., ICLR 2020), equations 2 and 3; a network-changing schedule is legal when the potential does
not drop below the original network's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_map_only

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.legality.initialisation import (
    check_images,
    check_logits,
    check_tensor,
    float_type,
    reinitialize,
    trainable_copy,
)
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.support.blocks import find_blocks, is_convolution
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device, seeded
from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.numbers import check_seed
from loopmorph.pipelines.training.task import Loss, checked_loss


@dataclass(frozen=True)
class FisherScore:
    """The potential of a network, with its spread over random initialisations.

    Attributes:
        values: the network's potential in each repeat.
        probes: probe (module name) -> its mean contribution; the contributions add up to `mean`.
    """

    values: tuple[float, ...]
    probes: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the repeats."""
        return sum(self.values) / len(self.values)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0.0 for one repeat."""
        if len(self.values) < 2:
            return 0.0
        if not self.finite:
            return math.nan
        return statistics.stdev(self.values) / math.sqrt(len(self.values))

    @property
    def finite(self) -> bool:
        """Whether every repeat gave a finite number; a network that overflows has no potential to compare."""
        return all(math.isfinite(value) for value in self.values)

    def __float__(self) -> float:
        return self.mean


def fisher_potential(
    model: nn.Module,
    images: torch.Tensor,
    labels: Any,
    *,
    seed: int = 0,
    repeats: int = 1,
    probes: str | Sequence[str] = "blocks",
    reset: bool = True,
    device: torch.device | str | None = None,
    loss: Loss | None = None,
) -> FisherScore:
    """Measures the Fisher Potential of a network on one minibatch.

    For channel c of a probed activation A with loss gradient g on N images,
    `D_c = 1/(2N) * sum_n ( sum_ij A_nij * g_nij )^2` (BlockSwap, eq. 2-3). A probe's score is the sum over its
    channels, the network's is the sum over its probes; a module that runs several times contributes at each run. The
    loss is the mean cross-entropy, or another one, in train mode, with real BatchNorm.

    The measurement works on a copy: the model, its mode, its gradients and the random state stay as they were. A score
    on the CPU is a function of the arguments alone.

    Args:
        model: gives (N, classes) logits for (N, C, H, W) images, or whatever `loss` takes.
        images: (N, C, H, W), floating point.
        labels: (N,) integers in [0, classes), or whatever `loss` takes.
        seed: repeat r initialises the weights from seed + r, see `reinitialize`.
        repeats: number of initialisations.
        probes: "blocks" for the output of each residual or dense block (the modules in which two activations are added
            or concatenated; each convolution where there is none), "convs" for the output of each convolution,
            "layers" for those of linear layers, too, or the names of the modules to probe.
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.
        loss: gives the mean loss, a scalar that gradients flow through, for outputs and labels; None for the
            cross-entropy of logits.

    Returns:
        The score. It may be infinite or NaN; see `FisherScore.finite`.

    Raises:
        ArgumentError: an argument of the wrong shape, type or range, a probe that the model does not have or does not
            run, or a model that does not give logits, fails, or cannot be put in train mode.
    """
    check_images(images)
    if loss is None:
        _check_labels(images, labels)
    check_seed(seed)
    if repeats < 1:
        raise ArgumentError("repeats", f"{repeats} repeats were asked for; at least 1 is needed")
    place = resolve_device(device)
    with torch.inference_mode(False), torch.enable_grad(), exact_arithmetic():
        twin = trainable_copy(model).to(place)
        images = images.to(place, float_type(twin), copy=True)
        labels = _placed(labels, place, loss is None)
        with seeded(seed, place):
            names = _choose_probes(twin, images, probes)
        runs = []
        for repeat in range(repeats):
            if reset:
                reinitialize(twin, seed + repeat)
            with seeded(seed + repeat, place):
                runs.append(_measure(twin, images, labels, names, loss or _cross_entropy))
    if not isinstance(probes, str):
        _check_ran(names, runs[0])
    means = {name: sum(run[name] for run in runs) / repeats for name in runs[0]}
    return FisherScore(tuple(sum(run.values()) for run in runs), means)


def _check_labels(images: torch.Tensor, labels: torch.Tensor) -> None:
    check_tensor("labels", labels)
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ArgumentError("labels", f"{tuple(labels.shape)} {labels.dtype} was given; (N,) integers are expected")
    if len(labels) != len(images):
        raise ArgumentError("labels", f"{len(labels)} labels were given for {len(images)} images")


def _placed(labels: Any, place: torch.device, classes: bool) -> Any:
    """The labels on a device, in whatever they are nested, as copies that the loss may change."""

    def moved(value: torch.Tensor) -> torch.Tensor:
        return value.to(place, torch.int64 if classes else value.dtype, copy=True)

    return tree_map_only(torch.Tensor, moved, labels)


# --- which modules to probe ---


def _choose_probes(model: nn.Module, images: torch.Tensor, probes: str | Sequence[str]) -> list[str]:
    """The names of the modules to probe."""
    if not isinstance(probes, str):
        known = dict(model.named_modules())
        unknown = [name for name in probes if name not in known]
        if unknown:
            raise ArgumentError("probes", f"the model has no module '{unknown[0]}'")
        if not probes:
            raise ArgumentError("probes", "no module was named")
        return list(dict.fromkeys(probes))
    if probes not in ("blocks", "convs", "layers"):
        reason = f"'{probes}' is not known; 'blocks', 'convs', 'layers' or a list of module names is"
        raise ArgumentError("probes", reason)
    if probes == "layers":
        return [name for name, module in model.named_modules() if _is_layer(module)]
    names = find_blocks(model, images) if probes == "blocks" else []
    names = names or [name for name, module in model.named_modules() if is_convolution(module)]
    if not names:
        raise ArgumentError("probes", "the model has neither blocks nor convolutions; name the modules to probe")
    return names


def _is_layer(module: nn.Module) -> bool:
    """Whether it is a convolution or a linear layer, or stands for one in a rewritten network."""
    return isinstance(module, nn.Linear | NestModule) or is_convolution(module)


# --- one measurement ---


def _measure(model: nn.Module, images: torch.Tensor, labels: Any, names: Sequence[str], loss: Loss) -> dict[str, float]:
    """One forward and backward pass: probe -> score, for the probes that ran."""
    totals: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())
    with hooked(modules[name].register_forward_hook(_probe(name, totals)) for name in names):
        outputs = run_model(model, images.detach().requires_grad_(True).clone())
        checked_loss(loss, outputs, labels).backward()
    return {name: totals[name].item() for name in names if name in totals}


def _cross_entropy(logits: Any, labels: torch.Tensor) -> torch.Tensor:
    _check_classes(logits, labels)
    return F.cross_entropy(logits, labels)


def _probe(name: str, totals: dict[str, torch.Tensor]) -> Callable[[nn.Module, Any, Any], torch.Tensor]:
    """A forward hook that scores its module's output once the gradient arrives."""

    def on_forward(_module: nn.Module, _inputs: Any, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or output.ndim < 2:
            raise ArgumentError("probes", f"module '{name}' gives no (N, C, ...) tensor")
        if not output.requires_grad:
            raise ArgumentError("probes", f"no gradient reaches the output of module '{name}'")
        activation = output.detach()  # a closure over `output` itself would be a cycle

        def on_gradient(gradient: torch.Tensor) -> None:
            score = _channel_scores(activation, gradient).sum()
            totals[name] = totals[name] + score if name in totals else score

        output.register_hook(on_gradient)
        return output.clone()  # a consumer that works in place must not change the probed values

    return on_forward


def _channel_scores(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """D_c of BlockSwap's eq. 2: (N, C, ...) activation and gradient -> (C,) float64."""
    count, channels = activation.shape[:2]
    sums = (activation * gradient).reshape(count, channels, -1).sum(2, dtype=torch.float64)
    return sums.square().sum(0) / (2 * count)


def _check_classes(logits: Any, labels: torch.Tensor) -> None:
    check_logits(logits, len(labels))
    low, high, classes = int(labels.min()), int(labels.max()), logits.shape[1]
    if low < 0 or high >= classes:
        raise ArgumentError("labels", f"label {low if low < 0 else high} is outside 0..{classes - 1}")


def _check_ran(names: Sequence[str], scores: dict[str, float]) -> None:
    """A named module without a score would silently count as zero."""
    silent = [name for name in names if name not in scores]
    if silent:
        raise ArgumentError("probes", f"module '{silent[0]}' does not take part in the model's output")
