"""Repair of one module of a network by itself, on inputs that it has in the original."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.repair.fittable import fittable_layers
from loopmorph.pipelines.oracle.repair.recorded import RecordedRun, record_run
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair, RepairWork, norms_of
from loopmorph.pipelines.oracle.repair.term_fit import FitSettings
from loopmorph.pipelines.oracle.surgery import raise_block
from loopmorph.pipelines.support.inference import switch_to_inference


@dataclass(frozen=True)
class BlockRepair:
    """A module of a rewritten network with fitted weights.

    Attributes:
        module: it, in eval mode, where its inputs are.
        layers: what was done to each of its layers, in the order in which they run.
    """

    module: nn.Module
    layers: tuple[LayerRepair, ...]


def repair_block(
    original: Network,
    program: Network,
    path: str,
    inputs: Sequence[torch.Tensor],
    settings: FitSettings | None = None,
    recorded: RecordedRun | None = None,
) -> BlockRepair:
    """Fits one module of a rewritten network to the original's, as `repair` fits the whole.

    Args:
        original: the network as imported, trained.
        program: what transformations made of it.
        path: the module's qualified name; "" for the network.
        inputs: its positional inputs in the original network, (N, ...) each; its weights go where these are.
        settings: how layers are fitted.
        recorded: the original module's run on `inputs` (see `record_block`), where it is known.

    Raises:
        ArgumentError: no such module, or it fails on the inputs: transformations have changed what it takes.
        IllegalTransform: a layer in it has no form in PyTorch.
    """
    place = inputs[0].device
    block = switch_to_inference(raise_block(program, path)).to(place)
    modules, settings = (_source(original, path, place), _named(block, path)), settings or FitSettings()
    work = RepairWork.prepared(original, program, modules, [x[:1] for x in inputs], settings, recorded=recorded)
    work.run(tuple(inputs))
    return BlockRepair(block, tuple(work.done))


def record_block(original: Network, path: str, inputs: Sequence[torch.Tensor]) -> RecordedRun | None:
    """The run of one module of the original, for `repair_block`.

    Args:
        original: the network as imported, trained.
        path: the module's qualified name; "" for the network.
        inputs: its positional inputs, (N, ...) each.

    Returns:
        None where it cannot be kept (see `record_run`).

    Raises:
        IllegalTransform: a layer in it has no form in PyTorch.
    """
    source = _source(original, path, inputs[0].device)
    return record_run(source, fittable_layers(original, original, source)[0], norms_of(source), tuple(inputs))


def _source(original: Network, path: str, place: torch.device) -> nn.Module:
    return _named(switch_to_inference(copy.deepcopy(original.model.get_submodule(path))).to(place), path)


def _named(module: nn.Module, path: str) -> nn.Module:
    return _Alone(module, path) if path else module


class _Alone(nn.Module):
    """A module without the network around it, so that what it holds has the names that it has in the network.

    Args:
        module: the module.
        path: its qualified name in the network, not empty.
    """

    def __init__(self, module: nn.Module, path: str) -> None:
        super().__init__()
        self._called = [module]  # in a list, so that it is found by its qualified name alone
        *parents, last = path.split(".")
        around: nn.Module = self
        for name in parents:
            around.add_module(name, nn.Module())
            around = around.get_submodule(name)
        around.add_module(last, module)

    def forward(self, *inputs: torch.Tensor) -> object:
        """What the module gives."""
        return self._called[0](*inputs)
