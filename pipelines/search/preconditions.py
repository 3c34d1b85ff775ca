"""What a network has to be for a search to mean something; looked at before anything is drawn."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.pipelines.ingress.exported_block import ExportedBlock
from loopmorph.pipelines.support.foreign import describe
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference, switch_to_training
from loopmorph.pipelines.training.task import Task

_SHOWN = 2  # images with which train mode is tried


def check_numbers(model: nn.Module, example_inputs: Sequence[torch.Tensor]) -> None:
    """Refuses what is not computed in float32, and weights that are no numbers.

    Raises:
        ArgumentError: no module; a parameter, buffer or input of another floating-point type; one that has no values
            yet; a parameter that holds NaN or infinities, or a buffer that holds NaN.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", f"a {type(model).__name__} was given; an nn.Module is expected")
    named: list[tuple[str, str, torch.Tensor]] = [("parameter", *each) for each in model.named_parameters()]
    named += [("buffer", *each) for each in model.named_buffers()]
    for kind, name, tensor in named:
        if is_lazy(tensor) or tensor.is_meta:
            raise ArgumentError("model", f"its {kind} '{name}' has no values yet")
        _check_type("model", f"its {kind} '{name}'", tensor, "model.float()")
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            raise ArgumentError("model", f"its {kind} '{name}' holds NaN")
        if kind == "parameter" and tensor.is_floating_point() and bool(tensor.isinf().any()):
            raise ArgumentError("model", f"its parameter '{name}' holds infinities")
    for position, tensor in enumerate(example_inputs if isinstance(example_inputs, tuple) else ()):
        if isinstance(tensor, torch.Tensor):
            _check_type("example_inputs", f"input {position}", tensor, "x.float()")


def check_modes(model: nn.Module, task: Task) -> None:
    """Compares the layers that run in train mode, in which a proxy judges, with those that are compiled.

    Raises:
        IllegalTransform: a layer runs in train mode alone.
        ArgumentError: the model does not run in train mode on the task's inputs.
    """
    inputs = tuple(x[:_SHOWN] for x in task.inputs)
    compiled, trained = _layers_run(model, inputs, training=False), _layers_run(model, inputs, training=True)
    extra = [name for name in trained if name not in compiled]
    if extra:
        reason = (
            "it runs in train mode and not in eval mode, so that the network that is judged and trained is not the one "
            "that is compiled; take it out, or give the network without it"
        )
        raise IllegalTransform(f"layer '{extra[0]}'", reason)


def _check_type(argument: str, what: str, tensor: torch.Tensor, remedy: str) -> None:
    if (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype is not torch.float32:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ArgumentError(argument, f"{what} is {kind}; a search computes in float32: convert it by {remedy}")


def _layers_run(model: nn.Module, inputs: Sequence[torch.Tensor], *, training: bool) -> dict[str, None]:
    """The modules with parameters of their own that run, in the order in which they do."""
    twin = copy.deepcopy(model)
    (switch_to_training if training else switch_to_inference)(twin)
    found: dict[str, None] = {}
    with _grad_mode(twin), hooked(_noting_calls(twin, found)):
        try:
            twin(*inputs)
        except Exception as error:  # the user's own forward may raise anything
            mode, shape = "train" if training else "eval", tuple(inputs[0].shape)
            reason = f"in {mode} mode it fails on a batch of shape {shape}: {describe(error)}"
            if isinstance(model, fx.GraphModule | ExportedBlock):
                reason += "; an exported graph may be fixed to its batch: export it with a dynamic one"
            raise ArgumentError("model", reason) from error
    return found


@contextmanager
def _grad_mode(model: nn.Module) -> Iterator[None]:
    """With gradients: without, PyTorch's fused attention reads weights past the modules that have them."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        yield


def _noting_calls(model: nn.Module, found: dict[str, None]) -> Iterator[RemovableHandle]:
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:

            def note(_module: nn.Module, _args: object, name: str = name) -> None:
                found[name] = None

            yield module.register_forward_pre_hook(note)
