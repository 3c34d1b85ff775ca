"""`Program.with_weights`: a trained module's weights in the program that it was made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.codegen.check import reference_of
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.rewritten.nest_module import NestModule

X = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Own(nn.Module):
    """A convolution of its own code."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 6, 3, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight, padding=1)


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), Own()]
    return lm.import_model(nn.Sequential(*layers).eval(), (X,))


def trained(module: nn.Module) -> nn.Module:
    """Other weights, as training leaves them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        module[1].running_mean.normal_(generator=generator)
    return module.eval()


@pytest.mark.parametrize(
    "steps",
    [
        "",
        "morph-interchange{layer=0 order=n,co,ci,oh,ow,kh,kw}",
        "morph-bottleneck{layer=0 iter=co factor=2}",
        "morph-bottleneck{layer=3 iter=oh factor=2}",
        "morph-mix{layer=3 iter=co}",
        "morph-partition{layer=4|convolution_2 iter=co sizes=2,3}",
        "morph-partition{layer=3 iter=co sizes=2,4}",
    ],
)
def test_the_program_has_what_its_module_has(program: Program, steps: str) -> None:
    before = program.apply(steps) if steps else program
    module = trained(before.to_module())
    after = before.with_weights(module)
    assert all(
        (value != before.parameters[name]).any() for name, value in after.parameters.items() if "var" not in name
    )
    torch.testing.assert_close(reference_of(after).eval()(X), module(X), rtol=0, atol=0)
    assert str(after) == str(before) and after.parameters.keys() == before.parameters.keys()


def test_pieces_and_own_nests_take_their_parts(program: Program) -> None:
    cut = program.apply("morph-partition{layer=4|convolution_2 iter=co sizes=2,3},morph-mix{layer=3 iter=co}")
    module = trained(cut.to_module())
    assert isinstance(module[3], NestModule)
    found = cut.with_weights(module).parameters
    pieces = [value for name, value in found.items() if name.startswith("4.weight")]
    assert torch.equal(torch.cat(pieces), module[4].weight) and [len(piece) for piece in pieces] == [2, 3]
    assert torch.equal(found["3.mix"], module[3].mix) and torch.equal(found["3.weight"], module[3].weight)


def test_the_module_of_another_program_is_refused(program: Program) -> None:
    smaller = program.apply("morph-bottleneck{layer=0 iter=co factor=2}")
    with pytest.raises(ArgumentError, match=r"'0\.weight' has shape \(8, 3, 3, 3\), and \(4, 3, 3, 3\) in the program"):
        smaller.with_weights(program.to_module())
    cut = program.apply("morph-partition{layer=4|convolution_2 iter=co sizes=2,3}")
    module = program.to_module()
    module[4].weight = nn.Parameter(torch.zeros(2, 6, 3, 3))
    with pytest.raises(ArgumentError, match=r"'4\.weight\.part1' is a part of a larger tensor; the module of this"):
        cut.with_weights(module)
