"""What signals at initialisation have in common: a copy of the network with fresh weights, in a seeded surrounding."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.exported_block import ExportedBlock
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device, seeded
from loopmorph.pipelines.support.inference import switch_to_training
from loopmorph.pipelines.support.numbers import check_seed


@contextmanager
def fresh_copy(
    model: nn.Module, images: torch.Tensor, *, seed: int, reset: bool, device: torch.device | str | None
) -> Iterator[tuple[nn.Module, torch.Tensor]]:
    """A copy of the network to measure, in train mode, and the images beside it.

    What runs within is seeded, in full float32 precision, with gradients enabled; the parameters need none. The model,
    its mode, its gradients and the random state stay as they were.

    Args:
        model: the network.
        images: (N, C, H, W), floating point.
        seed: of the weights (see `reinitialize`) and of what draws random numbers while the network runs.
        reset: whether to initialise the weights; False measures them as they are.
        device: where to compute; None takes a CUDA device when there is one.

    Raises:
        ArgumentError: an argument of the wrong shape, type or range, or a model that cannot be put in train mode.
    """
    check_images(images)
    check_seed(seed)
    place = resolve_device(device)
    with torch.inference_mode(False), torch.enable_grad(), exact_arithmetic():
        twin = trainable_copy(model).to(place)
        if reset:
            reinitialize(twin, seed)
        with seeded(seed, place):
            yield twin, images.detach().to(place, float_type(twin), copy=True)


def reinitialize(model: nn.Module, seed: int) -> None:
    """Gives every module that has `reset_parameters` fresh weights, in place.

    Each module draws from a generator of its own, seeded by `seed` and the module's qualified name. So a layer that two
    networks share gets the same weights in both, whatever happened to the layers before it. With such common random
    numbers the difference of two networks' scores shows the change of structure, not two draws of all the weights,
    and fewer repeats tell a better network from a lucky one. The numbers are drawn on the CPU and are the same on
    every device. The caller's random state is restored.

    Parameters of modules without `reset_parameters` keep their values.

    Args:
        model: the network to initialise.
        seed: one seed, one set of weights.
    """
    for name, module in model.named_modules():
        if not callable(getattr(module, "reset_parameters", None)):
            continue
        with torch.no_grad(), seeded(zlib.crc32(f"{seed}/{name}".encode()), torch.device("cpu")):
            _reset_on_cpu(module)


def _reset_on_cpu(module: nn.Module) -> None:
    own = [*module.parameters(), *module.buffers()]
    if all(tensor.device.type == "cpu" for tensor in own):
        module.reset_parameters()  # type: ignore[operator]
        return
    twin = copy.deepcopy(module).cpu()
    twin.reset_parameters()  # type: ignore[operator]
    for old, new in zip(own, [*twin.parameters(), *twin.buffers()], strict=True):
        old.copy_(new)


def check_images(images: Any, least: int = 1) -> None:
    """Raises:
    ArgumentError: no (N, C, H, W) tensor of floating point, or fewer images than are needed.
    """
    check_tensor("images", images)
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise ArgumentError(
            "images", f"{tuple(images.shape)} {images.dtype} was given; (N, C, H, W) floating point is expected"
        )
    if len(images) < least:
        raise ArgumentError("images", f"{len(images)} was given; at least {least} are needed")


def check_tensor(argument: str, value: Any) -> None:
    """Raises:
    ArgumentError: no tensor.
    """
    if not isinstance(value, torch.Tensor):
        raise ArgumentError(argument, f"a {type(value).__name__} was given; a torch.Tensor is expected")


def trainable_copy(model: nn.Module) -> nn.Module:
    """A copy in train mode whose parameters need no gradient: only those of activations are computed.

    Raises:
        ArgumentError: the graph of an exported program, whose mode is fixed.
    """
    if _has_fixed_mode(model):
        # Its train() may even succeed, but the operators carry the mode of the export.
        raise ArgumentError(
            "model",
            "the graph of an exported program has no train mode; measure the nn.Module that it came from",
        )
    twin = switch_to_training(copy.deepcopy(model))
    return twin.requires_grad_(False)


def _has_fixed_mode(model: nn.Module) -> bool:
    """Whether it is the graph of an exported program, or has BatchNorm as an operator, whose mode tells."""
    if isinstance(model, torch.fx.GraphModule):
        return any(isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes)
    steps = [step for module in model.modules() if isinstance(module, ExportedBlock) for step in module.steps]
    return any("batch_norm" in str(step.target) for step in steps if step.carries_mode)


def float_type(model: nn.Module) -> torch.dtype:
    """The type of the first floating-point parameter; float32 where there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def check_logits(logits: Any, count: int) -> None:
    """Raises:
    ArgumentError: no (count, classes) tensor.
    """
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != count:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ArgumentError("model", f"it gives {got}; logits of shape (N, classes) are expected")
