"""NAS-Bench-201 (Dong and Yang, ICLR 2020): one skeleton for 32x32 images, with one of 15,625 cells in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError

FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
INPUT_SHAPE = (3, 32, 32)

_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_CHANNELS = (16, 32, 64)  # of the three stages
_CELLS = 5  # in each stage
_NODES = 3  # of a cell, beside its input
_EXPECTED = f"{FORM} is expected, each op one of {', '.join(_OPERATIONS)}"


@dataclass(frozen=True)
class Edge:
    """One operation of a cell; node 0 is the cell's input, node 3 its output.

    Attributes:
        source: the node that it reads.
        target: the node that its result is added to.
        operation: its name.
    """

    source: int
    target: int
    operation: str


def parse_architecture(text: str) -> tuple[Edge, ...]:
    """The six operations of a cell, in the order of the text.

    Args:
        text: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, with the operations of nodes 1, 2 and 3; `op~k` reads node k. An
            op is none, skip_connect, nor_conv_1x1, nor_conv_3x3 or avg_pool_3x3.

    Raises:
        ArgumentError: another form, or an unknown operation; names the node.
    """
    if not isinstance(text, str):
        raise ArgumentError("architecture", f"a {type(text).__name__} was given; {_EXPECTED}")
    nodes = text.strip().split("+")
    if len(nodes) != _NODES:
        raise ArgumentError("architecture", f"'{text}' has {len(nodes)} nodes, separated by '+'; {_EXPECTED}")
    return tuple(edge for number, node in enumerate(nodes, start=1) for edge in _incoming(number, node))


def _incoming(number: int, text: str) -> list[Edge]:
    wrong = f"node {number} is '{text}'"
    if not re.fullmatch(r"\|([^|~]+~\d\|)+", text):
        raise ArgumentError("architecture", f"{wrong}; {_EXPECTED}")
    parts = [part.split("~") for part in text.strip("|").split("|")]
    sources = [int(source) for _, source in parts]
    if sources != list(range(number)):
        raise ArgumentError("architecture", f"{wrong}, which reads nodes {sources}; {_EXPECTED}")
    unknown = [name for name, _ in parts if name not in _OPERATIONS]
    if unknown:
        raise ArgumentError("architecture", f"{wrong}, where '{unknown[0]}' is not known; {_EXPECTED}")
    return [Edge(source, number, name) for source, (name, _) in enumerate(parts)]


def has_no_idle_operation(architecture: str) -> bool:
    """Whether each operation other than `none` lies on a way from the cell's input to its output.

    9,445 of the 15,625 cells are such, among them the one of nothing but `none`. In the others some weights change
    nothing, which signals that count weights or activations count all the same.

    Raises:
        ArgumentError: see `parse_architecture`.
    """
    edges = [edge for edge in parse_architecture(architecture) if edge.operation != "none"]
    fed = {0}
    for edge in edges:  # they are ordered by target
        if edge.source in fed:
            fed.add(edge.target)
    read = {_NODES}
    for edge in sorted(edges, key=lambda edge: -edge.source):
        if edge.target in read:
            read.add(edge.source)
    return all(edge.source in fed and edge.target in read for edge in edges)


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, BatchNorm: (N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        super().__init__(nn.ReLU(), convolution, nn.BatchNorm2d(outputs))


class Cell(nn.Module):
    """Three nodes, each the sum of its operations on those before it: (N, channels, H, W) to the same shape.

    A node that nothing but `none` leads to is zero.
    """

    def __init__(self, edges: Sequence[Edge], channels: int) -> None:
        super().__init__()
        self.edges = tuple(edge for edge in edges if edge.operation != "none")
        self.operations = nn.ModuleDict({_name(edge): _operation(edge.operation, channels) for edge in self.edges})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the cell."""
        nodes = [x]
        for number in range(1, _NODES + 1):
            terms = [self.operations[_name(e)](nodes[e.source]) for e in self.edges if e.target == number]
            total = terms[0] if terms else x * 0  # not `zeros_like`: the gradient is zero, but there is one
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return nodes[-1]


def _name(edge: Edge) -> str:
    return f"{edge.source}_{edge.target}"


def _operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    return ReLUConvBN(channels, channels, 3 if name == "nor_conv_3x3" else 1)


class Reduction(nn.Module):
    """A residual block of stride 2: (N, inputs, H, W) -> (N, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ReLUConvBN(inputs, outputs, 3, 2)
        self.conv2 = ReLUConvBN(outputs, outputs, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the block."""
        return self.shortcut(x) + self.conv2(self.conv1(x))


class NASBench201(nn.Module):
    """The skeleton: stem, three stages of five cells with 16, 32 and 64 channels, a reduction between two stages.

    `blocks` has the cells and reductions in the order in which they run. Operations that cannot reach the output are
    built and run, as they are in the benchmark.

    Args:
        edges: the cell's operations.
        classes: number of logits.
    """

    def __init__(self, edges: Sequence[Edge], *, classes: int) -> None:
        super().__init__()
        first, last = _CHANNELS[0], _CHANNELS[-1]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first))
        blocks: list[nn.Module] = []
        for stage, channels in enumerate(_CHANNELS):
            if stage:
                blocks.append(Reduction(_CHANNELS[stage - 1], channels))
            blocks += [Cell(edges, channels) for _ in range(_CELLS)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.linear = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        return self.linear(self.head(self.blocks(self.stem(x))))


def nasbench201(architecture: str, classes: int = 10) -> NASBench201:
    """The network of one cell, with fresh weights from the global random generator.

    The command line takes it as `nasbench201:ARCHITECTURE`, of 10 classes.

    Args:
        architecture: the cell, see `parse_architecture`.
        classes: number of logits: 10 for CIFAR-10, 100 for CIFAR-100, 120 for ImageNet-16-120.

    Raises:
        ArgumentError: a malformed architecture, or a number of classes that is not positive.
    """
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ArgumentError("classes", f"expected an integer of at least 1, got {classes!r}")
    return NASBench201(parse_architecture(architecture), classes=classes)
