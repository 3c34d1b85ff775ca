"""Repair of one module of a network by itself, on inputs that it has in the original."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair, RepairWork
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
) -> BlockRepair:
    """Fits one module of a rewritten network to the original's, as `repair` fits the whole.

    Args:
        original: the network as imported, trained.
        program: what transformations made of it.
        path: the module's qualified name; "" for the network.
        inputs: its positional inputs in the original network, (N, ...) each; its weights go where these are.
        settings: how layers are fitted.

    Raises:
        ArgumentError: no such module, or it fails on the inputs: transformations have changed what it takes.
        IllegalTransform: a layer in it has no form in PyTorch.
    """
    place = inputs[0].device
    block = switch_to_inference(raise_block(program, path)).to(place)
    source = switch_to_inference(copy.deepcopy(original.model.get_submodule(path))).to(place)
    modules = (_Alone(source, path), _Alone(block, path)) if path else (source, block)
    work = RepairWork.prepared(original, program, modules, [x[:1] for x in inputs], settings or FitSettings())
    work.run(tuple(inputs))
    return BlockRepair(block, tuple(work.done))


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
