"""Group with bands of the output: values against sliced convolutions, the oracle, compiled code, what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from networks import Residual, Twice, image
from torch import nn
from torch.nn import functional
from transformed import network

import loopmorph as lm
from loopmorph.passes.address import find_nest
from loopmorph.passes.neural.group import Group
from loopmorph.pipelines.program import Program

SAME, WIDENING, SHORTCUT = "block1.conv1", "block2.conv1", "block2.shortcut.0"


class Banded(nn.Module):
    """A convolution whose output is put together from bands; `weights` are what each band of rows uses."""

    def __init__(self, conv: nn.Conv2d, weights: Sequence[torch.Tensor], axis: int = 2, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.padding, self.axis, self.groups = conv.stride, conv.padding, axis, groups
        self.weights = nn.ParameterList(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bands = []
        for k, weight in enumerate(self.weights):
            whole = functional.conv2d(x, weight, stride=self.stride, padding=self.padding, groups=self.groups)
            bands.append(whole.chunk(len(self.weights), self.axis)[k])
        return torch.cat(bands, self.axis)


def slices(weight: torch.Tensor, bands: int) -> list[torch.Tensor]:
    """For each band the weight with all input channels but the band's slice set to zero."""
    result = []
    for k in range(bands):
        mask = torch.zeros(weight.shape[1])
        mask.chunk(bands)[k].fill_(1)
        result.append(weight * mask[None, :, None, None])
    return result


@pytest.fixture(scope="module")
def program() -> Program:
    return network(Residual, 12, 2)


def drawn_anew(program: Program, name: str) -> torch.Tensor:
    """Other values for one parameter, so that no two bands have the same: what the inherited ones cannot tell."""
    tensor = program.parameters[name]
    tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2)) * 0.3)
    return tensor


def check(program: Program, after: Program, layer: str, reference: nn.Module) -> None:
    """Module and compiled code agree with the network that has the reference as its layer; other batches; training."""
    network = program.to_module().eval()
    parent, _, name = layer.rpartition(".")
    setattr(network.get_submodule(parent), name, reference)
    module = after.to_module().eval()
    (x,) = after.example_inputs
    expected = network(x)
    assert torch.allclose(module(x), expected, atol=1e-5)
    assert (lm.compile(after)(x) - expected).abs().max() < 1e-4 * expected.abs().max()
    more = image(5, x.shape[-1], seed=1)
    assert torch.allclose(module(more), network(more), atol=1e-5)
    module.train()(more).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def conv_of(program: Program, layer: str) -> nn.Conv2d:
    conv = program.to_module().get_submodule(layer)
    assert isinstance(conv, nn.Conv2d)
    return conv


def macs(program: Program, layer: str) -> int:
    return next(entry.macs for entry in program.layers if entry.name == layer)


@pytest.mark.parametrize(
    ("layer", "iters", "factor"), [(SAME, "oh,ci", 4), (WIDENING, "ow,ci", 2), (SHORTCUT, "oh,ci", 2)]
)
def test_each_band_reads_its_own_slice_of_the_input(program: Program, layer: str, iters: str, factor: int) -> None:
    after = program.apply(f"morph-group{{layer={layer} iters={iters} factor={factor}}}")
    conv = conv_of(program, layer)
    weights = slices(program.parameters[f"{layer}.weight"], factor)
    check(program, after, layer, Banded(conv, weights, axis=2 if iters.startswith("oh") else 3))
    assert after.parameters[f"{layer}.weight"].shape == conv.weight.shape
    assert macs(after, layer) * factor == macs(program, layer)


@pytest.mark.parametrize(("layer", "factor"), [(SAME, 4), (WIDENING, 3), (SHORTCUT, 2)])
def test_each_band_has_its_own_weights(program: Program, layer: str, factor: int) -> None:
    after = program.apply(f"morph-group{{layer={layer} iters=oh factor={factor}}}")
    old = program.parameters[f"{layer}.weight"]
    assert torch.equal(after.parameters[f"{layer}.weight"], old.expand(factor, *old.shape))
    assert macs(after, layer) == macs(program, layer)
    weight = drawn_anew(after, f"{layer}.weight")
    check(program, after, layer, Banded(conv_of(program, layer), list(weight)))


def test_bands_of_a_split_axis_are_strips_of_its_blocks(program: Program) -> None:
    split = program.apply(f"morph-split{{layer={SAME} iter=oh factor=3}}")
    after = split.apply(f"morph-group{{layer={SAME} iters=oh.0 factor=2}}")
    weight = drawn_anew(after, f"{SAME}.weight")
    check(program, after, SAME, Banded(conv_of(program, SAME), list(weight)))
    sliced = split.apply(f"morph-group{{layer={SAME} iters=oh.0,ci factor=2}}")
    weights = slices(program.parameters[f"{SAME}.weight"], 2)
    check(program, sliced, SAME, Banded(conv_of(program, SAME), weights))


def test_bands_can_be_grouped_and_narrowed_afterwards(program: Program) -> None:
    group = f"morph-group{{layer={SAME} iters=co,ci factor=2}}"
    narrow = f"morph-bottleneck{{layer={SAME} iter=co factor=2}}"
    after = program.apply(f"morph-group{{layer={SAME} iters=oh factor=2}},{group},{narrow}")
    plain = program.apply(f"{group},{narrow}")
    old = plain.parameters[f"{SAME}.weight"]
    assert torch.equal(after.parameters[f"{SAME}.weight"], old.expand(2, *old.shape))
    weight = drawn_anew(after, f"{SAME}.weight")
    check(plain, after, SAME, Banded(conv_of(plain, SAME), list(weight), groups=2))


def test_bands_within_bands_are_as_many_bands(program: Program) -> None:
    step = f"morph-group{{layer={SAME} iters=oh factor=2}}"
    after = program.apply(f"{step},{step}")
    weight = drawn_anew(after, f"{SAME}.weight")
    inner_first = weight.transpose(0, 1).flatten(0, 1)
    check(program, after, SAME, Banded(conv_of(program, SAME), list(inner_first)))


def test_bands_on_a_coarse_grid(program: Program) -> None:
    after = program.apply(
        f"morph-group{{layer={SAME} iters=oh factor=2}},morph-bottleneck{{layer={SAME} iter=oh factor=3}}"
    )
    weight = drawn_anew(after, f"{SAME}.weight")
    rows = torch.arange(12) // 3 * 3
    banded = Banded(conv_of(program, SAME), list(weight))
    coarse = nn.Sequential(banded, _Rows(rows))
    check(program, after, SAME, coarse)


class _Rows(nn.Module):
    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, self.rows]


def test_the_space_offers_bands(program: Program) -> None:
    with program.module.context:
        offers = Group.space(find_nest(program.module.operation, SAME))
    found = {(offer.iters, offer.factor) for offer in offers}
    assert found >= {(("co", "ci"), 2), (("oh", "ci"), 2), (("oh", "ci"), 4), (("oh",), 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("layer=block1.conv1 iters=co factor=2", r"'co' already indexes its weight 'block1\.conv1\.weight'"),
        ("layer=block1.conv1 iters=ci factor=2", "'ci' is reduced; bands are of an iterator that indexes the result"),
        ("layer=block1.conv1 iters=n factor=2", "'n' runs over the batch"),
        ("layer=block1.conv1 iters=n,ci factor=2", "'n' runs over the batch"),
        ("layer=block1.conv1 iters=oh,ow factor=2", "'oh' has to index the result and 'ow' to be reduced"),
        ("layer=block1.conv1 iters=ci,oh factor=2", "'ci' has to index the result and 'oh' to be reduced"),
        ("layer=block1.conv1 iters=oh,ci factor=3", "the extent 8 of iterator 'ci' is not divisible by 3"),
        ("layer=block1.conv1 iters=oh factor=5", "the extent 12 of iterator 'oh' is not divisible by 5"),
        ("layer=bn1 iters=h factor=2", "it is no contraction that reads a parameter; its bands would all be alike"),
    ],
)
def test_what_has_no_bands_is_refused(program: Program, options: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        program.apply(f"morph-group{{{options}}}")


def test_a_shared_weight_gets_no_bands() -> None:
    with pytest.raises(lm.IllegalTransform, match=r"its weight 'conv\.weight' is read elsewhere as well"):
        network(Twice).apply("morph-group{layer=conv iters=oh factor=2}")


def test_one_or_two_different_iterators_are_wanted(program: Program) -> None:
    for iters in ("co,oh,ci", "oh,oh"):
        with pytest.raises(lm.ArgumentError, match=f"expected one iterator of the output, or two .*got '{iters}'"):
            program.apply(f"morph-group{{layer={SAME} iters={iters} factor=2}}")
