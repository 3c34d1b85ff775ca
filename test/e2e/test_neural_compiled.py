"""Group, depthwise and bottleneck on each kind of residual layer: shapes, work, and compiled code against PyTorch.

The layers of a network are changed together, since to compile it takes seconds; none changes another's shape.
"""

from __future__ import annotations

import pytest
import torch
from networks import Residual

import loopmorph as lm
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.zoo import ZOO

# One layer of each kind: same width, widening with stride, 1x1 shortcut.
LAYERS = SAME, WIDENING, SHORTCUT = ("block1.conv1", "block2.conv1", "block2.shortcut.0")


@pytest.fixture(scope="module")
def resnet() -> Program:
    """The first two stages of ResNet-18, one block each."""
    torch.manual_seed(0)
    return lm.import_model(Residual(64).eval(), (torch.randn(1, 3, 16, 16),))


def check(before: Program, text: str) -> Program:
    """The transformed program, once its compiled code agrees with its module and the module can be trained."""
    after = before.apply(text)
    module = after.to_module().eval()
    (x,) = after.example_inputs
    expected = module(x)
    difference = (lm.compile(after)(x) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-4
    expected.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    return after


def macs(program: Program, layer: str) -> int:
    return next(entry.macs for entry in program.layers if entry.name == layer)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_group(resnet: Program, factor: int) -> None:
    after = check(resnet, ",".join(f"morph-group{{layer={each} iters=co,ci factor={factor}}}" for each in LAYERS))
    for layer in LAYERS:
        outputs, inputs, *kernel = resnet.parameters[f"{layer}.weight"].shape
        assert after.parameters[f"{layer}.weight"].shape == (outputs, inputs // factor, *kernel)
        assert macs(after, layer) * factor == macs(resnet, layer)
        assert after.to_module().get_submodule(layer).groups == factor


def test_depthwise(resnet: Program) -> None:
    after = check(resnet, f"morph-depthwise{{layer={SAME}}}")
    assert after.parameters[f"{SAME}.weight"].shape == (64, 1, 3, 3)
    assert macs(after, SAME) * 64 == macs(resnet, SAME)


@pytest.mark.parametrize("layer", [WIDENING, SHORTCUT])
def test_depthwise_of_a_widening_layer_is_refused(resnet: Program, layer: str) -> None:
    with pytest.raises(lm.IllegalTransform, match="as many output as input channels: 'co' has 128, 'ci' 64"):
        resnet.apply(f"morph-depthwise{{layer={layer}}}")


@pytest.mark.parametrize("iterator", ["co", "ci"])
def test_bottleneck(resnet: Program, iterator: str) -> None:
    after = check(resnet, ",".join(f"morph-bottleneck{{layer={each} iter={iterator} factor=2}}" for each in LAYERS))
    for layer in LAYERS:
        outputs, inputs, *kernel = resnet.parameters[f"{layer}.weight"].shape
        halved = (outputs // 2, inputs) if iterator == "co" else (outputs, inputs // 2)
        assert after.parameters[f"{layer}.weight"].shape == (*halved, *kernel)
        assert macs(after, layer) * 2 == macs(resnet, layer)


def test_neural_and_loop_transformations_together_on_resnet18() -> None:
    torch.manual_seed(0)
    resnet = lm.import_model(ZOO["resnet18"].factory().eval(), (torch.randn(1, 3, 16, 16),))
    same, widening = "layer2.1.conv1", "layer2.0.conv1"
    check(
        resnet,
        f"morph-group{{layer={same} iters=co,ci factor=4}},morph-bottleneck{{layer={widening} iter=co factor=2}},"
        f"morph-tile{{layer={same} iters=oh,ow sizes=4,4}},morph-unroll{{layer={widening} iter=kw factor=3}},"
        "morph-interchange{layer=layer2.0.shortcut.0 order=ci,ow},morph-fuse{layer=layer3.0.conv1 iters=oh,ow}",
    )
