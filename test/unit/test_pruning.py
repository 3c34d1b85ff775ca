"""Pruning as a baseline: what is cut, what speed-up it is looked for by, and the file that it leaves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from networks import Residual
from torch import nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.traditional.pruning import _narrowest, _nearest, prune, prune_to_speedups
from loopmorph.pipelines.zoo.text import TextDecoder
from loopmorph.pipelines.zoo.vit import VisionTransformer

INPUTS = (torch.ones(1, 3, 8, 8),)


@pytest.fixture(scope="module")
def model() -> Residual:
    torch.manual_seed(0)
    return Residual(8).eval()


@pytest.mark.parametrize("style", ["uniform", "isomorphic"])
def test_channels_are_cut_in_multiples_and_the_classes_stay(model: Residual, style: str) -> None:
    pytest.importorskip("torch_pruning")
    pruned = prune(model, INPUTS, 0.5, style=style, round_to=2)
    assert pruned(*INPUTS).shape == (1, 10)
    assert model.conv1.out_channels == 8  # left as it is
    assert pruned.get_submodule("conv1").out_channels == 4
    assert all(layer.out_channels % 2 == 0 for layer in pruned.modules() if isinstance(layer, torch.nn.Conv2d))


def test_what_is_pruned_is_loaded_without_the_pruner(model: Residual, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning")
    pruned = prune(model, INPUTS, 0.5, style="uniform", round_to=2)
    lm.save_model(tmp_path / "pruned.pt", pruned, model="factories:residual", original=model)
    again = lm.load_model(tmp_path / "pruned.pt", original=Residual(8).eval())
    assert torch.equal(again(*INPUTS), pruned(*INPUTS))


class Norm(nn.LayerNorm):
    """A user's own, which keeps the shape that it normalises."""


class OwnAttention(nn.Module):
    """Attention as timm has it, which keeps its sizes beside its weights."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, features // heads, features
        self.norm, self.proj = Norm(features), nn.Linear(features, features)
        self.qkv = nn.Linear(features, 3 * features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, tokens, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(count, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*qkv.unbind(0))
        return x + self.proj(seen.transpose(1, 2).reshape(count, tokens, self.attn_dim))


def own() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 64), OwnAttention(64, 2), nn.Linear(64, 10)).eval()


@pytest.mark.parametrize("style", ["uniform", "isomorphic"])
def test_heads_stay_and_all_that_meets_a_token_follows(style: str, tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    model, images = VisionTransformer(8, 4, 32, 2, 2, classes=10).eval(), torch.randn(1, 3, 8, 8)
    pruned = prune(model, (images,), 0.5, style=style, round_to=4)
    attention, width = pruned.get_submodule("blocks.0.attn"), pruned.get_parameter("class_token").shape[2]
    assert isinstance(attention.qkv, nn.Linear) and width < 32 and width % 4 == 0
    assert attention.heads == 2 and attention.qkv.out_features == 3 * attention.proj.in_features < 96
    assert attention.proj.in_features % 8 == 0 and attention.proj.out_features == width
    lm.save_model(tmp_path / "pruned.pt", pruned, model="factories:vit", original=model)
    again = lm.load_model(tmp_path / "pruned.pt", original=model)
    assert torch.equal(again(images), pruned(images))
    torch.testing.assert_close(lm.compile(again, (images,))(images), pruned(images), rtol=1e-4, atol=1e-4)


def test_sizes_that_modules_keep_follow_also_in_the_file(tmp_path: Path) -> None:
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    model, x = own(), torch.randn(1, 3, 4)
    pruned = prune(model, (x,), 0.5, style="uniform", round_to=8)
    attention = pruned.get_submodule("1")
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (2, 16, 32)
    lm.save_model(tmp_path / "pruned.pt", pruned, model="factories:own", original=model)
    again = lm.load_model(tmp_path / "pruned.pt", original=own())
    assert torch.equal(again(x), pruned(x))
    assert again.get_submodule("1.norm").normalized_shape == (32,)


def test_tied_weights_stay_one() -> None:
    pytest.importorskip("torch_pruning")
    model, tokens = TextDecoder(20, 6, 32, 1, 2).eval(), torch.randint(20, (1, 6))
    pruned = prune(model, (tokens,), 0.5, style="uniform", round_to=8)
    assert pruned.get_parameter("head.weight") is pruned.get_parameter("tokens.weight")
    assert pruned(tokens).shape == (1, 6, 20)


def test_a_network_that_cannot_follow_is_refused() -> None:
    pytest.importorskip("torch_pruning")

    class Fixed(nn.Module):
        """Its code names the width of its layer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x).reshape(-1, 16))

    with pytest.raises(ArgumentError, match=r"does not run \(0 attentions with a fused projection found\): .*shape"):
        prune(Fixed().eval(), (torch.ones(1, 4),), 0.5, style="uniform", round_to=8)


def test_the_features_of_a_head_are_a_layer_s_channels() -> None:
    assert _narrowest(VisionTransformer(8, 4, 32, 1, 4, classes=2)) == 8
    assert _narrowest(Residual(8)) == 8


def test_the_nearest_ratio_is_found_on_either_side() -> None:
    speedup = {ratio: 64 / (64 - ratio) for ratio in range(1, 57)}
    for asked in (1.01, 1.5, 2.0, 3.1, 7.9):
        best = min(speedup, key=lambda ratio: abs(math.log(speedup[ratio] / asked)))
        assert _nearest(asked, speedup.__getitem__, 56) == best


def test_a_speed_up_out_of_reach_is_refused_with_the_most() -> None:
    with pytest.raises(ArgumentError, match=r"9 times cannot be reached; 50% fewer channels are 2.00 times"):
        _nearest(9, lambda ratio: 64 / (64 - ratio), 32)


def test_wrong_arguments_are_refused(model: Residual) -> None:
    for given, message in (
        ({"speedups": [1.0]}, r"expected numbers above 1, got \[1.0\]"),
        ({"style": "wild"}, "expected one of uniform, isomorphic, got 'wild'"),
        ({"clock": "sun"}, "expected one of loopmorph, onnxruntime, got 'sun'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            prune_to_speedups(model, INPUTS, **{"speedups": [2.0], **given})
