"""Tasks: a classifier's, and one with a loss of the user's for whatever a network gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import Plain
from torch import nn
from transformed import network

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.fisher import fisher_potential
from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.training.task import UserTask, make_task


def two_heads(outputs: dict[str, torch.Tensor], targets: Any) -> torch.Tensor:
    return outputs["mask"].square().mean() + outputs["label"].square().mean()


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mask, self.label = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.conv(x).relu()
        return {"mask": self.mask(x), "label": self.label(x.mean((2, 3)))}


def test_a_loss_of_the_users_scores_what_is_no_classifier() -> None:
    images = torch.randn(4, 3, 8, 8)
    found = fisher_potential(Heads(), images, None, loss=two_heads)
    assert found.mean > 0 and set(found.probes) == {"conv", "mask"}
    doubled = fisher_potential(Heads(), images, None, loss=lambda outputs, targets: 2 * two_heads(outputs, targets))
    assert doubled.mean == pytest.approx(4 * found.mean)


def test_the_default_loss_is_the_same_function() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    same = fisher_potential(model, images, labels, loss=nn.functional.cross_entropy)
    assert same == fisher_potential(model, images, labels)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda outputs, targets: outputs["nothing"], "<lambda> fails: KeyError: 'nothing'"),
        (lambda outputs: outputs, r"<lambda> fails: TypeError: .* takes 1 positional argument but 2 were given"),
        (
            lambda outputs, targets: outputs["mask"],
            r"gives a tensor \(4, 2, 8, 8\); a tensor with one number is expect",
        ),
        (lambda outputs, targets: 3.0, "gives a float; a tensor with one number is expected"),
        (lambda outputs, targets: torch.zeros(()), "does not depend on the outputs: no gradient reaches them"),
    ],
)
def test_losses_that_are_none(loss: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"'loss': .*{message}"):
        fisher_potential(Heads(), torch.randn(4, 3, 8, 8), None, loss=loss)


def test_targets_of_any_form(plain: Program, tmp_path: Path) -> None:
    images, masks = np.zeros((5, 8, 8, 3), np.uint8), np.arange(5 * 64).reshape(5, 8, 8).astype(np.int32)
    np.savez(tmp_path / "masks.npz", images=images, labels=masks)
    found = make_task(plain, tmp_path / "masks.npz", 3, 0, two_heads)
    assert found.targets.shape == (3, 8, 8) and found.targets.dtype is torch.int64
    assert found.source == "npz masks.npz, 3 of 5 images"
    synthetic = make_task(plain, None, 3, 0, two_heads)
    assert synthetic.targets is None and "without targets" in synthetic.source
    np.savez(tmp_path / "words.npz", images=images, labels=np.array(list("abcde")))
    with pytest.raises(DataError, match=r"'labels' is \(5,\) <U1; numbers for each of 5 images are expected"):
        make_task(plain, tmp_path / "words.npz", 3, 0, two_heads)
    with pytest.raises(ArgumentError, match="'loss': a str was given; a function of outputs and targets is expected"):
        make_task(plain, None, 3, 0, "two_heads")  # type: ignore[arg-type]


def test_another_loss_is_another_study(plain: Program) -> None:
    batch = Batch(torch.randn(2, 3, 8, 8), None, 0, "random")
    first = UserTask(batch, two_heads)
    other = UserTask(batch, lambda outputs, targets: outputs["mask"].mean())
    assert first.describe() == UserTask(batch, two_heads).describe() != other.describe()


# ---- what a score cannot judge


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear((self.conv1(x) * 0 - 1).relu().mean((2, 3)))


class OneClass(Dead):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv1(x).relu().mean((2, 3)))


class Overflowing(OneClass):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv1(x).mean((2, 3)) * 1e38 * 1e38)


@pytest.mark.parametrize(
    ("make", "images", "doubt"),
    [
        (Plain, torch.randn(4, 3, 8, 8), ""),
        (Dead, torch.randn(4, 3, 8, 8), "the original's is 0: no gradient reaches its layers"),
        (OneClass, torch.randn(4, 3, 8, 8), "the original's is 0: no gradient reaches its layers"),
        (Plain, torch.full((4, 3, 8, 8), 0.06), "all images are the same single colour"),
        (Overflowing, torch.randn(4, 3, 8, 8), "the original's is nan: the network overflows"),
    ],
)
def test_a_score_says_when_it_cannot_judge(make: type[nn.Module], images: torch.Tensor, doubt: str) -> None:
    batch = Batch(images, torch.zeros(4).long(), 1, "given")
    proxy = FisherPotential(make_task(network(make), batch, 4, 0, None))
    found = proxy.score(network(make)).doubt
    assert found.startswith(doubt) and bool(found) == bool(doubt)
