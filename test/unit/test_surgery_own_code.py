"""Operations of a module's own forward that were rewritten: the code follows, or it is refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm


class Own(nn.Module):
    """A convolution and a matrix product in its own code, behind pooling that hides the size of the map."""

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.weight = nn.Parameter(torch.randn(6, 8, 3, 3))
        self.matrix = nn.Parameter(torch.randn(10, 6))
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.conv2d(self.conv(x), self.weight, padding=self.padding)
        return functional.linear(x.mean((2, 3)), self.matrix)


class Subclass(nn.Conv2d):
    """What a user might derive; surgery does not know what its forward does."""


def imported(model: nn.Module) -> lm.Program:
    torch.manual_seed(0)
    return lm.import_model(model.eval(), (torch.randn(1, 3, 8, 8),))


def layer_of(p: lm.Program, kind: str) -> str:
    (name,) = (x.name for x in p.layers if kind in x.name)
    return name


@pytest.mark.parametrize(
    "step",
    [
        "morph-group{layer=LAYER iters=oh,ci factor=2}",
        "morph-bottleneck{layer=LAYER iter=oh factor=2}",
    ],
)
def test_what_is_no_convolution_any_more_is_refused_by_name(step: str) -> None:
    p = imported(Own())
    layer = layer_of(p, "convolution")
    with pytest.raises(
        lm.IllegalTransform, match=rf"layer '.*{layer.rpartition('|')[2]}': it is no convolution .* use an nn.Conv2d"
    ):
        p.apply(step.replace("LAYER", layer)).to_module()


def test_a_padding_that_stands_in_the_code_is_compared() -> None:
    p = imported(Own())
    step = f"morph-bottleneck{{layer={layer_of(p, 'convolution')} iter=kh factor=3}}"
    with pytest.raises(lm.IllegalTransform, match=r"padding \(\(0, 0\), \(1, 1\)\).* now, there of .*padding \(1, 1\)"):
        p.apply(step).to_module()


@pytest.mark.parametrize("kind", ["outputs", "inputs"])
def test_code_that_follows_from_the_shapes_alone_is_accepted(kind: str) -> None:
    p = imported(Own())
    names = [x.name for x in p.layers if x.macs]
    narrower = f"morph-bottleneck{{layer={names[1]} iter=co factor=3}}"
    p = p.apply({"outputs": narrower, "inputs": f"{narrower},morph-bottleneck{{layer=conv iter=co factor=2}}"}[kind])
    model = p.to_module()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(lm.compile(p)(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_subclass_of_a_convolution_is_code_of_ones_own() -> None:
    p = imported(nn.Sequential(nn.Conv2d(3, 8, 1), Subclass(8, 6, 3, padding=1)))
    with pytest.raises(lm.IllegalTransform, match=r"layer '1.*': it is no convolution"):
        p.apply(f"morph-group{{layer={[x.name for x in p.layers if x.macs][1]} iters=oh,ci factor=2}}").to_module()
