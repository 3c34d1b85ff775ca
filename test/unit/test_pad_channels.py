"""Channels padded to whole vectors: the same values, blocked layouts, and what has to stay as it is."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import randomized
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.passes.analysis.coupling.growth import Growth
from loopmorph.passes.analysis.roles import is_reduction
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.layout.pad_channels import PadChannels, padded_channels
from loopmorph.passes.nest import nests
from loopmorph.pipelines.network import copy_module
from loopmorph.pipelines.program import Program, import_model

BEFORE = (
    "morph-fold-scale,morph-fuse-elementwise{scope=function},morph-forward-copies,morph-local-borders,"
    "morph-drop-unit-loops"
)
PAD = f"{BEFORE},morph-pad-channels{{width=16}}"


class Stack(nn.Module):
    """Convolutions, BatchNorm, pooling, a residual addition, a depthwise step and a classifier."""

    def __init__(self, first: int = 20, second: int = 36, inputs: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, first, 3, padding=1)
        self.depthwise = nn.Conv2d(first, first, 3, 1, 1, groups=first, bias=False)
        self.bn2 = nn.BatchNorm2d(first)
        self.conv3 = nn.Conv2d(first, second, 1, bias=False)
        self.linear = nn.Linear(second, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = functional.silu(self.bn2(self.depthwise(self.conv2(x)))) + x
        return self.linear(functional.adaptive_avg_pool2d(functional.relu(self.conv3(x)), 1).flatten(1))


class Concatenation(nn.Module):
    """Slices of 24 and 4 channels, normalised together, read by a 3x3 and a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 24, 3, padding=1)
        self.right = nn.Conv2d(24, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(28)
        self.wide = nn.Conv2d(28, 40, 3, padding=1)
        self.narrow = nn.Conv2d(28, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = functional.relu(self.left(x))
        both = functional.relu(self.bn(torch.cat([left, self.right(left)], 1)))
        return torch.cat([self.wide(both), self.narrow(both)], 1)


class MeanOverChannels(nn.Module):
    """Each pixel is divided by the mean over the channels, twice: of the map itself and after a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 20, 3, padding=1)
        self.conv2 = nn.Conv2d(20, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        return self.conv2(x - x.mean(1, keepdim=True)).softmax(1)


class Flattened(nn.Module):
    """A classifier over a flattened map, a hidden layer, and a sigmoid gate for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3, stride=2)
        self.squeeze = nn.Conv2d(20, 6, 1)
        self.excite = nn.Conv2d(6, 20, 1)
        self.hidden = nn.Linear(20 * 3 * 3, 100)
        self.linear = nn.Linear(100, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.conv(x))
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.linear(functional.relu(self.hidden((x * gate).flatten(1))))


class Grouped(nn.Module):
    """Groups of 20 channels between plain convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 40, 1)
        self.grouped = nn.Conv2d(40, 40, 3, padding=1, groups=2)
        self.conv2 = nn.Conv2d(40, 20, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(functional.relu(self.grouped(self.conv1(x))))


MODELS = {
    "20": Stack,
    "100": functools.partial(Stack, 24, 100),
    "concatenation": Concatenation,
    "mean": MeanOverChannels,
    "flattened": Flattened,
    "grouped": Grouped,
}


def imported(model: nn.Module, size: int = 7, batch: int = 1, inputs: int = 3) -> Program:
    generator = torch.Generator().manual_seed(1)
    return import_model(randomized(model), (torch.randn(batch, inputs, size, size, generator=generator),))


def padded(program: Program, width: int = 16) -> dict[str, tuple[int, int]]:
    """What is padded, as "layer iterator" -> old and new extent."""
    module = copy_module(program.apply(BEFORE).module).operation
    PadChannels(width).run(module)
    assert module.verify()
    return {f"{p.layer} {p.iterator}": (p.extent, p.padded) for p in padded_channels(module)}


def relative_error(program: Program) -> float:
    """The compiled program against PyTorch."""
    with torch.no_grad():
        wanted = program.model(*program.example_inputs)
    got = lm.compile(program.apply(PAD))(*program.example_inputs)
    return float((got - wanted).abs().max() / wanted.abs().max())


# ---- the same values


@pytest.mark.parametrize(
    ("name", "size", "batch"),
    [
        ("20", 13, 1),
        ("20", 30, 1),
        ("100", 7, 8),
        ("concatenation", 7, 1),
        ("concatenation", 13, 2),
        ("mean", 7, 1),
        ("flattened", 7, 2),
        ("grouped", 7, 1),
    ],
)
def test_a_padded_network_computes_what_pytorch_does(name, size, batch):
    torch.manual_seed(0)
    assert relative_error(imported(MODELS[name](), size, batch)) < 1e-5


@settings(max_examples=4, deadline=None)
@given(first=st.integers(2, 50), second=st.integers(2, 70), inputs=st.integers(1, 40), batch=st.integers(1, 2))
def test_any_number_of_channels(first, second, inputs, batch):
    torch.manual_seed(first)
    assert relative_error(imported(Stack(first, second, inputs), 9, batch, inputs)) < 1e-5


# ---- what is padded


def test_tied_channels_grow_together():
    found = padded(imported(Stack()))
    for name in ("conv1 co", "conv2 co", "conv2 ci", "depthwise c"):
        assert found[name] == (20, 32), name
    assert found["conv3 co"] == (36, 48)
    assert not [name for name in found if name.startswith("conv1 ci")]


def test_each_slice_of_a_concatenation_grows_by_itself():
    found = padded(imported(Concatenation()))
    assert found["left co"] == (24, 32)
    assert found["right co"] == (4, 16)
    assert found["wide ci"] == found["narrow ci"] == (28, 48)
    assert "wide co" not in found  # its slice of the output could not be copied by one nest any more


def test_sums_over_channels_go_on_over_the_real_lanes():
    program = imported(MeanOverChannels()).apply(PAD)
    reductions = [
        loop.extent
        for nest in nests(program.module.operation)
        if nest.loads and not any(loop.iterator == "kh" for loop in nest.loops)
        for loop in nest.loops
        if is_reduction(nest, loop.position)
    ]
    assert set(reductions) <= {1, 20, 24}
    assert 20 in reductions


def test_groups_stay_as_they_are():
    found = padded(imported(Grouped()))
    assert not [name for name in found if name.startswith("grouped")]
    assert found["conv2 co"] == (20, 32)


@pytest.mark.parametrize(("channels", "inputs"), [(32, 3), (3, 3)])
def test_nothing_is_padded_where_vectors_are_whole_or_it_does_not_pay(channels, inputs):
    model = nn.Sequential(nn.Conv2d(inputs, channels, 3), nn.ReLU(), nn.Conv2d(channels, 16, 3))
    assert not padded(imported(model))


def test_a_padded_program_needs_no_more_padding():
    program = imported(Stack()).apply(PAD)
    assert str(program.apply("morph-pad-channels{width=16}").module) == str(program.module)


def test_the_module_that_is_trained_keeps_its_channels():
    program = imported(Stack())
    assert program.to_module().conv1.weight.shape == (20, 3, 3, 3)
    assert lm.compile(program).program.parameters["conv1.weight"].shape == (20, 3, 3, 3)


def test_a_width_of_one_lane_is_refused():
    with pytest.raises(ArgumentError, match="width"):
        PadChannels(1)


# ---- growth


def test_segments_grow_at_their_ends():
    growth = Growth.of(28, {24}, 16)
    assert growth.extent == 48
    assert growth.keep.intervals == ((0, 24), (32, 36))
    assert growth.place(24) == 32
    assert growth.whole_segments(0, 20) is None
    assert growth.is_contiguous(0, 24) and not growth.is_contiguous(20, 28)


@pytest.mark.parametrize("channels", [12, 20, 38])
def test_padded_lanes_are_finite_where_the_real_ones_are(channels: int) -> None:
    """What ReLU6 has clamped is finite, also of an infinite input; padded lanes must not make it a NaN."""
    layers = (nn.Conv2d(3, channels, 1), nn.ReLU6(), nn.Conv2d(channels, channels, 3, padding=1, groups=channels))
    net = nn.Sequential(*layers, nn.ReLU6(), nn.Conv2d(channels, 16, 1)).eval()
    images = torch.ones(1, 3, 6, 6)
    images[0, 0, 2, 3] = torch.inf
    with torch.inference_mode():
        expected = net(images)
        assert expected.isfinite().all()
        torch.testing.assert_close(lm.compile(net, (torch.ones(1, 3, 6, 6),))(images), expected)
