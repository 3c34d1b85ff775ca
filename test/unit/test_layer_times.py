"""A profile of a network as it is compiled, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.measure.profile import profile
from loopmorph.pipelines.program import import_model


class Forked(nn.Module):
    """Two layers whose nests do not follow each other, and one that is computed within another's nests."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(16, 16, 3, padding=1)
        self.b = nn.Conv2d(16, 64, 1)
        self.norm = nn.BatchNorm2d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.b(self.a(self.a(x)))) + 1


@pytest.mark.parametrize("threads", [1, 2])
def test_the_layers_make_up_the_call(threads: int) -> None:
    program = import_model(Forked().eval(), (torch.randn(1, 16, 8, 8),))
    times = profile(program, threads, calls=5)
    assert {"a", "b"} <= set(times.seconds)
    assert "norm" not in times.seconds
    assert all(seconds > 0 for seconds in times.seconds.values())
    # Medians of parts; they need not add up to the median of the sum.
    assert sum(times.seconds.values()) == pytest.approx(times.total, rel=0.9)


def test_layers_that_take_longer_show() -> None:
    model = nn.Sequential(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 256, 3, padding=1)).eval()
    times = profile(import_model(model, (torch.randn(1, 16, 32, 32),)), calls=5)
    assert times.seconds["1"] > 3 * times.seconds["0"]  # it computes 144 times as much


def test_threads_that_this_computer_does_not_admit_are_refused() -> None:
    program = import_model(nn.Conv2d(16, 16, 1).eval(), (torch.randn(1, 16, 8, 8),))
    with pytest.raises(ArgumentError, match="expected a positive number of threads, got 0"):
        profile(program, 0)
