"""Convolutions that keep a part of their taps are convolutions with another padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedConv2d


def program(layer: nn.Conv2d, size: int = 9) -> lm.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, layer.in_channels, 1), layer)
    return lm.import_model(model, (torch.randn(2, 3, size, size + 1),))


@pytest.mark.parametrize(
    ("layer", "text", "kernel", "padding"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), "morph-bottleneck{layer=1 iter=kh factor=3}", (1, 3), (0, 1)),
        (nn.Conv2d(4, 6, 5, padding=2), "morph-narrow{layer=1 iter=kw begin=1 extent=3}", (5, 3), (2, 1)),
        (nn.Conv2d(4, 6, 5, stride=2, padding=2), "morph-narrow{layer=1 iter=kh begin=1 extent=3}", (3, 5), (1, 2)),
        (nn.Conv2d(4, 6, 3, padding=2, dilation=2), "morph-bottleneck{layer=1 iter=kw factor=3}", (3, 1), (2, 0)),
        (
            nn.Conv2d(4, 6, 3, padding=1),
            "morph-bottleneck{layer=1 iter=kw factor=3},morph-bottleneck{layer=1 iter=kh factor=3},"
            "morph-group{layer=1 iters=co,ci factor=2}",
            (1, 1),
            (0, 0),
        ),
    ],
)
def test_central_taps_are_a_smaller_convolution(
    layer: nn.Conv2d, text: str, kernel: tuple[int, int], padding: tuple[int, int]
) -> None:
    p = program(layer).apply(text)
    model = p.to_module()
    conv = model[1]
    assert type(conv) is nn.Conv2d
    assert (conv.kernel_size, conv.padding, conv.stride) == (kernel, padding, layer.stride)
    x = torch.randn(2, 3, 9, 10)
    with torch.no_grad():
        torch.testing.assert_close(lm.compile(p)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "morph-narrow{layer=1 iter=kh begin=0 extent=1}",
        "morph-narrow{layer=1 iter=kh begin=2 extent=1}",
        "morph-narrow{layer=1 iter=kw begin=1 extent=2},morph-narrow{layer=1 iter=kh begin=0 extent=2}",
    ],
)
@pytest.mark.parametrize(
    "options", [{"padding": 1}, {"padding": 1, "stride": 2}, {}], ids=["padded", "strided", "valid"]
)
def test_taps_to_one_side_pad_unevenly_or_leave_rows_out(text: str, options: dict[str, int]) -> None:
    p = program(nn.Conv2d(4, 6, 3, **options)).apply(text)
    model = p.to_module()
    assert isinstance(model[1], nn.Conv2d)
    x = torch.randn(2, 3, 9, 10)
    with torch.no_grad():
        torch.testing.assert_close(lm.compile(p)(x), model(x), rtol=1e-4, atol=1e-5)
    model(x).sum().backward()
    assert model[1].weight.grad.shape == p.parameters["1.weight"].shape


def test_a_row_that_is_left_out_at_one_side_only() -> None:
    conv = program(nn.Conv2d(4, 6, 3, padding=1)).apply("morph-narrow{layer=1 iter=kh begin=0 extent=1}").to_module()[1]
    assert isinstance(conv, SlicedConv2d)
    assert conv.uneven_padding == (1, 1, 1, -1)
    x = torch.randn(1, 4, 5, 5)
    want = functional.conv2d(functional.pad(x, (1, 1, 1, 0))[:, :, :-1], conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), want)


def test_a_single_row_leaves_the_modules_stride() -> None:
    p = program(nn.Conv2d(4, 6, (3, 3), stride=2, padding=(1, 1)), size=2)
    conv = p.apply("morph-bottleneck{layer=1 iter=kh factor=3}").to_module()[1]
    assert (conv.kernel_size, conv.stride) == ((1, 3), (2, 2))
