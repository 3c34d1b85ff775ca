"""Whole networks: imported, compiled and run, their output equals PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.zoo import ZOO
from loopmorph.pipelines.zoo.densenet import DenseNet

TOLERANCE = 1e-4  # of the largest output


def with_statistics(model: nn.Module) -> nn.Module:
    """The model for inference, every BatchNorm with statistics and weights that change what it computes."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def check_against_pytorch(model: nn.Module, x: torch.Tensor) -> None:
    executable = lm.compile(model, (x,))
    with torch.no_grad():
        expected = model(x)
    got = executable(x)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= TOLERANCE * expected.abs().max()


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(ZOO[name].factory())


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("resnet18", 8),
        ("resnet34", 1),
        ("resnext29_2x64d", 1),
        ("vgg11", 1),
        ("mobilenet", 1),
        ("mobilenet", 8),
        ("resnet18_i", 1),
    ],
)
def test_zoo_network(name: str, batch: int) -> None:
    check_against_pytorch(network(name), torch.randn(batch, *ZOO[name].input_shape))


@pytest.mark.parametrize(("blocks", "batch"), [((1, 2, 8, 2), 1), ((1, 1, 2, 2), 8)])
def test_a_densenet_of_fewer_layers(blocks: tuple[int, ...], batch: int) -> None:
    """The growth and the transitions of DenseNet-161, whose 78 dense layers take a minute to compile."""
    torch.manual_seed(0)
    check_against_pytorch(with_statistics(DenseNet(blocks, 48, classes=10)), torch.randn(batch, 3, 32, 32))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("multiplier", [2, 3])
def test_one_input_channel_per_group_with_several_outputs(batch: int, multiplier: int) -> None:
    # llvm/torch-mlir issue 3745: such a convolution was taken for a depthwise one
    model = nn.Sequential(
        nn.Conv2d(6, 6 * multiplier, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6 * multiplier), nn.ReLU()
    )
    check_against_pytorch(with_statistics(model), torch.randn(batch, 6, 9, 9))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn(self.stem(x)))
        return torch.cat([y + self.conv(y), nn.functional.avg_pool2d(y, 3, 1, 1)], 1).mean((2, 3))


def test_a_network_with_a_forward_of_its_own() -> None:
    torch.manual_seed(0)
    check_against_pytorch(with_statistics(Residual()), torch.randn(2, 3, 12, 12))
