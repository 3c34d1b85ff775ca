"""What a network has to be before a search begins, and how the refusals read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import Residual, image
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.search.preconditions import check_modes, check_numbers
from loopmorph.pipelines.training.task import Classification


def filled(name: str, value: float) -> nn.Module:
    model = Residual()
    with torch.no_grad():
        model.get_parameter(name)[0] = value
    return model


def with_buffer(value: torch.Tensor) -> nn.Module:
    model = Residual()
    model.block1.register_buffer("mask", value)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Residual().half(), "its parameter 'conv1.weight' is float16; a search computes in float32"),
        (lambda: Residual().bfloat16(), "its parameter 'conv1.weight' is bfloat16;"),
        (lambda: Residual().double(), r"its parameter 'conv1.weight' is float64; .* convert it by model\.float\(\)"),
        (lambda: with_buffer(torch.zeros(2).double()), "its buffer 'block1.mask' is float64"),
        (lambda: with_buffer(torch.zeros(2, dtype=torch.complex64)), "its buffer 'block1.mask' is complex64"),
        (lambda: filled("linear.bias", float("nan")), "its parameter 'linear.bias' holds NaN"),
        (lambda: filled("block2.conv1.weight", -float("inf")), "its parameter 'block2.conv1.weight' holds infinities"),
        (lambda: with_buffer(torch.tensor([0.0, float("nan")])), "its buffer 'block1.mask' holds NaN"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "its parameter '0.weight' has no values yet"),
        (lambda: Residual().to("meta"), "its parameter 'conv1.weight' has no values yet"),
        (lambda: "resnet18", "a str was given; an nn.Module is expected"),
    ],
)
def test_numbers_that_a_search_does_not_take(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"'model': {message}"):
        lm.optimize(make(), (image(),), candidates=1)


def test_inputs_of_another_type() -> None:
    with pytest.raises(ArgumentError, match=r"'example_inputs': input 0 is float64; .* convert it by x\.float\(\)"):
        lm.optimize(Residual(), (image().double(),), candidates=1)


def test_masks_and_integers_are_no_fault() -> None:
    check_numbers(with_buffer(torch.tensor([0.0, -float("inf")])), (image(), torch.zeros(2, dtype=torch.int64)))


# ---- train and eval mode


class Auxiliary(nn.Module):
    """A layer that runs in one of the modes alone, as a branch whose result is used or not."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).relu()
        if self.where == "train" and self.training:
            x = self.b(x)
        if self.where == "beside" and self.training:
            self.b(x)
        if self.where == "both" or (self.where == "eval" and not self.training):
            x = self.b(x)
        return self.linear(x.mean((2, 3)))


def task(count: int = 4) -> Classification:
    return Classification(Batch(torch.randn(count, 3, 8, 8), torch.arange(count) % 4, 4, "random"))


@pytest.mark.parametrize("where", ["train", "beside"])
def test_layers_that_only_train_are_named(where: str) -> None:
    with pytest.raises(IllegalTransform, match=r"layer 'b': it runs in train mode and not in eval mode"):
        check_modes(Auxiliary(where), task())


@pytest.mark.parametrize("where", ["both", "eval", "nowhere"])
def test_other_layers_are_no_fault(where: str) -> None:
    model = Auxiliary(where)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_modes(model, task())
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_fused_attention_hides_no_layer() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(2), nn.Linear(36, 8), encoder, nn.Flatten(), nn.Linear(64, 4))
    check_modes(model.requires_grad_(False).eval(), task())


def test_a_model_that_fails_in_train_mode_is_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 4))
    message = r"'model': in train mode it fails on a batch of shape \(1, 3, 8, 8\): ValueError: Expected more than 1"
    with pytest.raises(ArgumentError, match=message):
        check_modes(model, task(1))
