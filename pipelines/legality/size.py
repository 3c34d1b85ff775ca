"""How large a network is, as a signal: the baselines that every other signal has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from loopmorph.pipelines.legality.initialisation import fresh_copy
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.foreign import run_model
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.training.task import Task


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations of all contractions for one image; more of them is taken to be better.

    Of a program, the sum of `Layer.macs`; of a module, half of what PyTorch's `FlopCounterMode` counts. As a gate it
    would refuse whatever makes a network smaller; it is there to be compared with.

    Cost: none for a program, one forward pass on one image for a module.

    Attributes:
        task: the minibatch, whose images tell the shape.
    """

    task: Task
    name: str = "macs"
    title: str = "MACs"
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        images = network.example_tensors[0].shape[0] if network.example_tensors else 1
        return Score(network.macs / images)

    def measure(self, model: nn.Module) -> Score:
        (images,) = self.task.inputs
        with fresh_copy(model, images[:1], seed=0, reset=False, device="cpu") as (twin, image):
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                run_model(switch_to_inference(twin), image)  # BatchNorm in train mode may ask for more than one image
            return Score(counter.get_total_flops() // 2)

    def describe(self) -> Any:
        return {"name": self.name}


def parameter_count(model: nn.Module) -> int:
    """The number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class Params:
    """The number of trainable parameters; more of them is taken to be better. There to be compared with, as `Macs`.

    Cost: none, but of making the module where a program is given.
    """

    name: str = "params"
    title: str = "parameters"
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        return self.measure(to_module(network))

    def measure(self, model: nn.Module) -> Score:
        return Score(parameter_count(model))

    def describe(self) -> Any:
        return {"name": self.name}


def compression(original: Network, network: Network) -> float:
    """How many times fewer multiply-accumulates a rewritten network has: a calibration's signal "compression"."""
    return original.macs / max(network.macs, 1)
