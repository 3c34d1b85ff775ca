"""Module surgery: what the user gets back is the network that the program describes, as an ordinary module."""

from __future__ import annotations

import copy
import dataclasses
import re

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.address import layer_nests
from loopmorph.pipelines.oracle.nests_as_module import nests_as_module
from loopmorph.pipelines.oracle.surgery import raise_layer, to_module
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.rewritten.rewritten_layers import SlicedConv2d


class Block(nn.Module):
    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16, eps=1e-3, momentum=0.3)
        self.act1 = nn.PReLU(16) if activation is nn.PReLU else nn.ReLU()
        self.conv2 = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.conv2(self.act1(self.norm1(self.conv1(x)))) + x)


class Network(nn.Module):
    def __init__(self, activation: type[nn.Module] = nn.ReLU, flat: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = Block(activation)
        self.last = nn.Conv2d(8, 16, 1)
        self.linear = nn.Linear(16, 10)
        self.flat = flat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.adaptive_avg_pool2d(self.last(self.block(self.stem(x))), 1)
        return self.linear(x.view(-1, 16) if self.flat else x.flatten(1))


def import_(model: nn.Module, *shape: int) -> lm.Program:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return lm.import_model(model, (torch.randn(*shape),))


@pytest.fixture(scope="module")
def network() -> lm.Program:
    return import_(Network(), 1, 3, 8, 8)


X = torch.randn(4, 3, 8, 8)


def test_an_unchanged_program_gives_the_same_network(network: lm.Program) -> None:
    model = to_module(network)
    assert model is not network.model
    assert [type(m) for m in model.modules()] == [type(m) for m in network.model.modules()]
    assert torch.equal(model.eval()(X), copy.deepcopy(network.model).eval()(X))
    assert list(model.state_dict()) == list(network.model.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_random_state_stay(training: bool) -> None:
    p = import_(Network().train(training), 1, 3, 8, 8).apply("morph-group{layer=block.conv1 iters=co,ci factor=2}")
    state = torch.get_rng_state()
    model = p.to_module()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training is training for m in model.modules())


def test_loop_transformations_leave_the_users_modules(network: lm.Program) -> None:
    p = network.apply(
        "morph-split{layer=block.conv1 iter=ow factor=2},morph-unroll{layer=block.conv2 iter=kw factor=3}"
    )
    model = p.to_module()
    assert [type(m) for m in model.modules()] == [type(m) for m in network.model.modules()]
    assert torch.equal(model.eval()(X), copy.deepcopy(network.model).eval()(X))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_grouped_convolution(network: lm.Program, factor: int) -> None:
    p = network.apply(f"morph-group{{layer=block.conv1 iters=co,ci factor={factor}}}")
    model = p.to_module()
    conv = model.block.conv1
    assert (type(conv), conv.groups, conv.padding) == (nn.Conv2d, factor, (1, 1))
    assert torch.equal(conv.weight, p.parameters["block.conv1.weight"])
    assert set(model.state_dict()) == set(network.model.state_dict())
    model.train()(X).sum().backward()
    assert all(q.grad is not None for q in model.parameters())


def test_a_bottleneck_follows_through_batch_norm(network: lm.Program) -> None:
    p = network.apply("morph-bottleneck{layer=block.conv1 iter=co factor=2}")
    model = p.to_module()
    norm = model.block.norm1
    assert (norm.num_features, norm.eps, norm.momentum) == (8, 1e-3, 0.3)
    assert torch.equal(norm.running_mean, network.model.block.norm1.running_mean[:8])
    assert torch.equal(norm.num_batches_tracked, network.model.block.norm1.num_batches_tracked)
    assert (model.block.conv1.out_channels, model.block.conv2.in_channels) == (8, 8)
    assert model.block.conv2.bias is not None
    for name, value in p.parameters.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_an_input_bottleneck_reads_a_part_of_the_channels(network: lm.Program) -> None:
    p = network.apply("morph-bottleneck{layer=block.conv1 iter=ci factor=2}")
    conv = p.to_module().block.conv1
    assert isinstance(conv, SlicedConv2d)
    x = torch.randn(2, 8, 4, 4)
    want = functional.conv2d(x[:, :4], p.parameters["block.conv1.weight"], padding=1)
    torch.testing.assert_close(conv(x), want)
    assert list(conv.state_dict()) == ["weight"]
    assert "reads channels 0..3" in repr(conv)


@pytest.mark.parametrize(
    "steps",
    [
        "morph-group{layer=block.conv2 iters=co,ci factor=4}",
        "morph-bottleneck{layer=block.conv2 iter=ci factor=2}",
        "morph-group{layer=block.conv2 iters=co,ci factor=2},morph-bottleneck{layer=block.conv2 iter=ci factor=2}",
        "morph-bottleneck{layer=last iter=co factor=4}",
    ],
)
def test_every_layer_equals_its_nests(network: lm.Program, steps: str) -> None:
    p = network.apply(steps)
    for layer in ("stem", "block.conv1", "block.conv2", "last", "linear"):
        nests = nests_as_module(layer_nests(p.module.operation, layer), p.parameters, layer)
        module = raise_layer(p, layer)
        shape = nests.recipe.buffers[nests.recipe.numbers("input")[0]].shape
        x = torch.randn(2, *shape[1:])
        want = module(x.flatten(1) if layer == "linear" else x)
        torch.testing.assert_close(nests(x).reshape(want.shape), want, rtol=1e-4, atol=1e-5)


def test_frozen_parameters_stay_frozen() -> None:
    model = Network()
    model.block.conv1.weight.requires_grad_(False)
    p = import_(model, 1, 3, 8, 8).apply("morph-bottleneck{layer=block.conv1 iter=co factor=2}")
    rewritten = p.to_module()
    assert not rewritten.block.conv1.weight.requires_grad
    assert rewritten.block.conv2.weight.requires_grad


def test_the_imported_model_is_left_alone(network: lm.Program) -> None:
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    rewritten = network.apply("morph-bottleneck{layer=block.conv1 iter=co factor=2}").to_module()
    with torch.no_grad():
        for parameter in rewritten.parameters():
            parameter.zero_()
    assert all(torch.equal(network.model.state_dict()[name], value) for name, value in before.items())


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.relu(self.conv(x)))


def test_a_module_used_twice_is_one_module() -> None:
    p = import_(Shared(), 1, 4, 6, 6)
    x = torch.randn(2, 4, 6, 6)
    model = p.to_module()
    assert type(model.conv) is nn.Conv2d
    assert torch.equal(model(x), p.model(x))
    for layer in {x.name for x in p.layers if x.macs}:
        p = p.apply(f"morph-interchange{{layer={layer} order=n,ci,co,oh,ow,kh,kw}}")
    assert torch.equal(p.to_module()(x), p.model(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.relu(self.first(x)))


def test_tied_parameters_stay_tied() -> None:
    p = import_(Tied(), 1, 4, 6, 6)
    model = p.to_module()
    assert model.first.weight is model.second.weight
    assert model.first.weight is not p.model.first.weight


class Raw(nn.Module):
    """A module that owns a parameter and uses it in its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 1)
        self.kernel = nn.Parameter(torch.randn(6, 8, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(self.conv(x), self.kernel)


def test_a_raw_parameter_takes_its_new_shape() -> None:
    p = import_(Raw(), 1, 4, 6, 6).apply("morph-bottleneck{layer=conv iter=co factor=2}")
    model = p.to_module()
    assert model.kernel.shape == (6, 4, 3, 3)
    assert isinstance(model.kernel, nn.Parameter)
    assert torch.equal(model.kernel, p.model.kernel[:, :4])


def test_a_raw_convolution_with_its_groups_in_the_code_is_refused() -> None:
    p = import_(Raw(), 1, 4, 6, 6)
    (layer,) = (x.name for x in p.layers if "conv2d" in x.name or "convolution" in x.name)
    with pytest.raises(lm.IllegalTransform, match="the model's own forward does not run with the new shapes"):
        p.apply(f"morph-group{{layer={layer} iters=co,ci factor=2}}").to_module()


class Shuffle(nn.Module):
    """Reads its input through a view: the nests of `second` see the activation before the shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 1)
        self.second = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        n, c, h, w = y.shape
        return self.second(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def test_a_layer_behind_a_channel_shuffle_keeps_its_module() -> None:
    p = import_(Shuffle(), 1, 4, 5, 5)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(p.to_module()(x), p.model(x))


def transposed_kernel(p: lm.Program, step: str) -> lm.Program:
    """The program with kh and kw of the weight exchanged by hand, as a transformation of one's own might."""
    text, count = re.subn(r"(affine.load %arg0\[%\w+, %\w+), (%\w+), (%\w+)\]", r"\1, \3, \2]", str(p))
    assert count == 1
    text = text.replace("module {", f'module attributes {{morph.schedule = ["{step}"]}} {{', 1)
    return dataclasses.replace(p, module=ir.Module.parse(text, p.module.context))


def test_a_layer_that_is_no_convolution_any_more_runs_as_nests() -> None:
    p = transposed_kernel(import_(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()), 1, 4, 6, 6), "my-pass{layer=0}")
    p.model[0].weight.requires_grad_(False)
    model = p.to_module()
    assert isinstance(model[0], NestModule)
    assert model[0].is_convolution
    assert not model[0].weight.requires_grad
    assert list(model.state_dict()) == list(p.model.state_dict())
    x = torch.randn(3, 4, 6, 6)
    want = functional.conv2d(x, p.model[0].weight.transpose(2, 3), p.model[0].bias).relu()
    torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-5)


def test_a_network_that_is_one_convolution() -> None:
    p = import_(nn.Conv2d(4, 8, 3, padding=1), 1, 4, 6, 6)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(p.to_module()(x), p.model(x))


def test_shapes_in_the_users_code_are_reported_with_the_module() -> None:
    p = import_(Network(flat=True), 1, 3, 8, 8).apply("morph-bottleneck{layer=last iter=co factor=2}")
    with pytest.raises(lm.IllegalTransform, match=r"model: .* does not run with the new shapes: RuntimeError") as info:
        p.to_module()
    assert "\n" not in str(info.value)


def test_a_layer_that_cannot_take_its_new_shape_is_named() -> None:
    p = import_(Network(nn.PReLU), 1, 3, 8, 8).apply("morph-bottleneck{layer=block.conv1 iter=co factor=2}")
    with pytest.raises(
        lm.IllegalTransform, match=r"layer 'block.act1': a PReLU cannot take the new shape of its 'weight'"
    ):
        p.to_module()


def test_raise_layer_gives_operations_of_the_forward_too(network: lm.Program) -> None:
    names = [x.name for x in network.layers]
    adding = next(n for n in names if "add" in n)
    a, b = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)
    module = raise_layer(network, adding)
    assert isinstance(module, NestModule)
    torch.testing.assert_close(module(a, b), a + b)
    assert type(raise_layer(network, "stem")) is nn.Conv2d
    with pytest.raises(lm.ArgumentError, match="no layer 'nonsense' in the program"):
        raise_layer(network, "nonsense")
