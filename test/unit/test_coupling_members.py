"""What a refusal says of the layers that share a dimension: all of them, whichever it was found at."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import loopmorph as lm


class Residual(nn.Module):
    """The network's output is tied to `stem` and `outer`; `inner` reads the same channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.inner = nn.Conv2d(8, 6, 1)
        self.outer = nn.Conv2d(6, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return x + self.outer(functional.relu(self.inner(x)))


@pytest.fixture(scope="module")
def program() -> lm.Program:
    return lm.import_model(Residual().eval(), (torch.randn(1, 3, 4, 4),))


def members(p: lm.Program, step: str) -> tuple[list[str], int]:
    """The loops that the refusal names, and the number of all."""
    with pytest.raises(lm.IllegalTransform, match="tied to the network's output through layer 'add'") as refusal:
        p.apply(step)
    found = re.search(r"\(the dimension of (.*?)(?: and (\d+) more)?\)$", str(refusal.value))
    assert found is not None
    names = found[1].split(", ")
    return names, len(names) + int(found[2] or 0)


@pytest.mark.parametrize("step", ["morph-bottleneck{LOOP factor=2}", "morph-narrow{LOOP begin=1 extent=2}"])
def test_every_layer_of_the_dimension_counts(program: lm.Program, step: str) -> None:
    stem, all_of_stem = members(program, step.replace("LOOP", "layer=stem iter=co"))
    outer, all_of_outer = members(program, step.replace("LOOP", "layer=outer iter=co"))
    assert all_of_stem == all_of_outer == 6  # co and c of stem and outer, ci of inner, c of the addition
    assert (stem[0], outer[0]) == ("stem co", "outer co")
    assert "inner ci" in stem


def test_a_slice_of_a_concatenation_counts_alone() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(torch.cat([self.left(x), self.right(x)], 1))

    p = lm.import_model(Joined().eval(), (torch.randn(1, 3, 4, 4),))
    with pytest.raises(lm.IllegalTransform, match=r"layer 'left', iterator 'co': .* network's output") as refusal:
        p.apply("morph-bottleneck{layer=left iter=co factor=2}")
    assert "right" not in str(refusal.value)
