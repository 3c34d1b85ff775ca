"""Bottleneck of output iterators: values against strided convolutions, the oracle, compiled code, what is refused."""

from __future__ import annotations

import pytest
import torch
from networks import Residual, image
from torch import nn
from torch.nn import functional
from transformed import network

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.address import find_nest, layer_nests
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.program import Program


class Coarse(nn.Module):
    """A convolution of which `keep` picks the rows and columns that are computed; each stands for those after it."""

    def __init__(self, conv: nn.Conv2d, rows: list[int], columns: list[int]) -> None:
        super().__init__()
        self.conv, self.rows, self.columns = conv, rows, columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)[:, :, self.rows][:, :, :, self.columns]


def repeated(extent: int, factor: int, stride: int = 1) -> list[int]:
    """For each index the one that is computed for it: every `factor`-th block of `stride` is."""
    return [i // (stride * factor) * stride * factor + i % stride for i in range(extent)]


@pytest.fixture(scope="module")
def residual() -> Program:
    """Odd sizes that divide: maps of 6 x 6, and 3 x 3 after a stride of 2."""
    return network(Residual, 6, 2)


def check(program: Program, text: str, reference: nn.Module) -> Program:
    """The rewritten program, once module, reference and compiled code agree, for another batch too, and it trains."""
    after = program.apply(text)
    module = after.to_module().eval()
    (x,) = after.example_inputs
    expected = reference(x)
    assert torch.allclose(module(x), expected, atol=1e-5)
    assert (lm.compile(after)(x) - expected).abs().max() < 1e-4 * expected.abs().max()
    more = image(5, x.shape[-1], seed=1)
    assert torch.allclose(module(more), reference(more), atol=1e-5)
    module.train()(more).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    return after


def residual_reference(program: Program, layer: str, rows: list[int], columns: list[int]) -> nn.Module:
    network = program.to_module().eval()
    conv = network.get_submodule(layer)
    assert isinstance(conv, nn.Conv2d)
    parent, _, name = layer.rpartition(".")
    setattr(network.get_submodule(parent), name, Coarse(conv, rows, columns))
    return network


@pytest.mark.parametrize(("layer", "size"), [("conv1", 6), ("block2.conv1", 3), ("block2.shortcut.0", 3)])
def test_both_axes_give_every_few_points_of_the_convolution(residual: Program, layer: str, size: int) -> None:
    b = 3 if size == 3 else 2
    text = ",".join(f"morph-bottleneck{{layer={layer} iter={i} factor={b}}}" for i in ("oh", "ow"))
    points = repeated(size, b)
    after = check(residual, text, residual_reference(residual, layer, points, points))
    macs = {entry.name: entry.macs for entry in residual.layers}
    assert next(entry.macs for entry in after.layers if entry.name == layer) * b * b == macs[layer]
    assert after.parameters[f"{layer}.weight"].shape == residual.parameters[f"{layer}.weight"].shape


def test_a_coarse_convolution_is_a_strided_one_read_back_by_nearest_neighbours(residual: Program) -> None:
    text = ",".join(f"morph-bottleneck{{layer=block1.conv1 iter={i} factor=2}}" for i in ("oh", "ow"))
    block = residual.apply(text).to_module().get_submodule("block1.conv1")
    x = torch.randn(3, 8, 6, 6)
    strided = functional.conv2d(x, residual.parameters["block1.conv1.weight"], stride=2, padding=1)
    assert torch.allclose(block(x), functional.interpolate(strided, scale_factor=2.0), atol=1e-5)


@pytest.mark.parametrize(("part", "stride"), [("oh.0", 2), ("oh.1", 1)])
def test_a_part_of_a_split_axis_repeats_bands_or_rows_within_them(residual: Program, part: str, stride: int) -> None:
    factor = 3 if part == "oh.0" else 2
    text = f"morph-split{{layer=conv1 iter=oh factor=2}},morph-bottleneck{{layer=conv1 iter={part} factor={factor}}}"
    check(residual, text, residual_reference(residual, "conv1", repeated(6, factor, stride), list(range(6))))


def test_twice_the_same_axis_is_once_the_product(residual: Program) -> None:
    steps = [f"morph-bottleneck{{layer=conv1 iter=oh factor={b}}}" for b in (2, 3)]
    after = check(residual, ",".join(steps), residual_reference(residual, "conv1", repeated(6, 6), list(range(6))))
    assert [n.role for n in layer_nests(after.module.operation, "conv1")].count(marks.EXPAND) == 1


def test_start_values_with_a_bias_follow(plain: Program) -> None:
    text = ",".join(f"morph-bottleneck{{layer=conv2 iter={i} factor=2}}" for i in ("oh", "ow"))
    network = plain.to_module().eval()
    network.conv2 = Coarse(network.conv2, repeated(4, 2), repeated(4, 2))
    check(plain, text, network)


def test_grouped_and_depthwise_layers_too(separable: Program) -> None:
    for layer in ("grouped", "depthwise"):
        reference = separable.to_module().eval()
        setattr(reference, layer, Coarse(reference.get_submodule(layer), list(range(4)), repeated(4, 2)))
        check(separable, f"morph-bottleneck{{layer={layer} iter=ow factor=2}}", reference)


def test_channels_and_groups_can_follow(residual: Program) -> None:
    text = (
        "morph-bottleneck{layer=block1.conv1 iter=oh factor=2},morph-group{layer=block1.conv1 iters=co,ci factor=2},"
        "morph-bottleneck{layer=block1.conv1 iter=co factor=2},morph-bottleneck{layer=block1.conv2 iter=ow factor=2}"
    )
    rest = text.split(",morph-group")[1].split(",morph-bottleneck{layer=block1.conv2")[0]
    dense = residual.apply("morph-group" + rest)
    network = dense.to_module().eval()
    network.block1.conv1 = Coarse(network.block1.conv1, repeated(6, 2), list(range(6)))
    network.block1.conv2 = Coarse(network.block1.conv2, list(range(6)), repeated(6, 2))
    check(residual, text, network)


def test_a_result_that_the_network_returns_keeps_its_shape() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    network = nn.Sequential(conv)
    program = lm.import_model(network.eval(), (image(1, 6),))
    check(program, "morph-bottleneck{layer=0 iter=oh factor=2}", Coarse(conv, repeated(6, 2), list(range(6))))


def test_the_space_offers_the_grid_and_windows_that_divide(residual: Program) -> None:
    with residual.module.context:
        offers = Bottleneck.space(find_nest(residual.module.operation, "block1.conv1"))
    assert {(o.iter, o.factor) for o in offers} >= {("oh", 2), ("ow", 2), ("kh", 3), ("kw", 3), ("co", 2), ("ci", 4)}
    assert not any(o.iter == "n" for o in offers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("morph-bottleneck{layer=conv1 iter=n factor=2}", "'n': it runs over the batch; only the points within one"),
        ("morph-bottleneck{layer=conv1 iter=oh factor=4}", "extent 6 of iterator 'oh' of layer 'conv1' is not divis"),
        ("morph-bottleneck{layer=linear iter=n factor=2}", "it runs over the batch"),
        (
            "morph-split{layer=conv1 iter=oh factor=4},morph-bottleneck{layer=conv1 iter=oh.1 factor=2}",
            r"a bound that is not constant \(a split with a remainder\)",
        ),
        (
            "morph-interchange{layer=conv1 order=ci,kh,kw,ow},morph-vectorize{layer=conv1 iter=ow width=2},"
            "morph-bottleneck{layer=conv1 iter=oh factor=2}",
            "already vectorised",
        ),
        ("morph-bottleneck{layer=bn1 iter=h factor=2}", "layer 'bn1', iterator 'h'"),
    ],
)
def test_what_has_no_coarse_grid_is_refused(residual: Program, text: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        residual.apply(text)
