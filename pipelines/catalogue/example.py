"""The network on which the catalogue shows what transformations and schedules do, and how much that is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.passes.errors import LoopmorphError
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.zoo.transformer import Block

LAYERS = ("a", "b", "c")  # the layers that examples are applied to; the first that admits one shows it
TRANSFORMER_LAYERS = ("attn.qkv", "mlp.fc1")  # likewise, of the transformer block


class Example(nn.Module):
    """`a` keeps the channels, `b` doubles them, `c` is added to its input; all are 3x3 convolutions.

    (N, 3, 8, 8) to (N, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 3, 3, padding=1)
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.a = nn.Conv2d(32, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.b = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the network."""
        x = x + self.c(x)
        x = torch.relu(self.norm(self.a(torch.relu(self.stem(x)))))
        return self.head(torch.relu(self.b(x)).mean((2, 3)))


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates, and elements of the parameters, buffers and constants that are read."""

    macs: int
    parameters: int


@dataclass(frozen=True)
class Effect:
    """What a rewrite did to a layer, and to the network around it.

    Attributes:
        layer: the layer that it was applied to.
        steps: the transformations that it consists of, as pass texts.
        layer_before, layer_after: the layer's own work.
        network_before, network_after: that of the whole network.
    """

    layer: str
    steps: tuple[str, ...]
    layer_before: Work
    layer_after: Work
    network_before: Work
    network_after: Work


@functools.cache
def example_program() -> Program:
    """The network, imported once."""
    return import_model(Example().eval(), (torch.zeros(1, 3, 8, 8),))


@functools.cache
def transformer_program() -> Program:
    """A transformer block on 16 tokens of 32 features, which shows what is about heads and hidden units; likewise."""
    return import_model(Block(32, 4).eval(), (torch.zeros(1, 16, 32),))


def effect(program: Program, text: Callable[[str], str], layers: Sequence[str] = LAYERS) -> Effect:
    """Applies a rewrite to the first of some layers that admits it.

    Args:
        program: the example.
        text: layer name -> what `Program.apply` takes.
        layers: the names.

    Raises:
        ArgumentError, IllegalTransform: no layer admits it; this is the first one's refusal.
    """
    refusals: list[LoopmorphError] = []
    for layer in layers:
        try:
            after = program.apply(text(layer))
        except LoopmorphError as refusal:
            refusals.append(refusal)
            continue
        pair = [(_of_layer(p, layer), _of_network(p)) for p in (program, after)]
        return Effect(layer, after.steps, pair[0][0], pair[1][0], pair[0][1], pair[1][1])
    raise refusals[0]


def _of_layer(program: Program, layer: str) -> Work:
    work = next((each.macs for each in program.layers if each.name == layer), 0)  # it may have been dropped
    own = [tensor for name, tensor in program.parameters.items() if name.startswith(f"{layer}.")]
    return Work(work, sum(tensor.numel() for tensor in own))


def _of_network(program: Program) -> Work:
    return Work(program.macs, sum(tensor.numel() for tensor in program.parameters.values()))
