"""Rewritten layers within modules that read the weights of their layers, and layers over tokens."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from agreement import Of
from torch import nn

import loopmorph as lm
from loopmorph.pipelines.zoo.transformer import Attention

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


def encoder_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    return nn.Sequential(layer, nn.Linear(16, 4))


def tokens() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.fixture(scope="module")
def encoder() -> lm.Program:
    torch.manual_seed(0)
    return lm.import_model(encoder_layer().eval(), (X,))


@pytest.mark.parametrize(
    "text",
    [
        "morph-bottleneck{layer=0.linear1 iter=ci factor=2}",
        "morph-bottleneck{layer=0.linear1 iter=co factor=2}",
        "morph-group{layer=0.linear1 iters=co,ci factor=2}",
        "morph-mix{layer=0.linear2 iter=co}",
        "morph-group{layer=1 iters=co,ci factor=2}",
    ],
)
def test_the_fused_kernel_of_an_encoder_layer_does_not_read_rewritten_weights(encoder: lm.Program, text: str) -> None:
    program = encoder.apply(text)
    module = program.to_module().eval()
    with torch.no_grad():
        outputs = module(X)
        again = pickle.loads(pickle.dumps(copy.deepcopy(module)))(X)
    torch.testing.assert_close(lm.compile(program)(X), outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(again, outputs)
    torch.testing.assert_close(module(X), outputs, rtol=1e-4, atol=1e-4)


def test_a_stack_of_encoder_layers_packs_no_sequences() -> None:
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
    program = lm.import_model(Of(lambda stack, x: stack(x), stack).eval(), (X,))
    text = "morph-bottleneck{layer=parts.0.layers.0.linear1 iter=ci factor=2}"
    module = program.apply(text).to_module().eval()
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[:, 3:] = True
    with torch.no_grad():
        assert module.parts[0](X, src_key_padding_mask=padding).shape == X.shape


def test_the_projection_of_an_attention_is_refused_by_name(encoder: lm.Program) -> None:
    program = encoder.apply("morph-bottleneck{layer=0.self_attn|mm_1 iter=ci factor=2}")
    with pytest.raises(lm.IllegalTransform, match=r"layer '0.self_attn.out_proj': a NonDynamically.* cannot take"):
        program.to_module()


@pytest.mark.parametrize("text", ["morph-group{layer=2 iters=co,ci factor=2}", "morph-mix{layer=2 iter=co}"])
def test_a_layer_over_tokens_keeps_their_axes(text: str) -> None:
    program = lm.import_model(tokens().eval(), (X,)).apply(text)
    module = program.to_module()
    torch.testing.assert_close(lm.compile(program)(X), module(X), rtol=1e-4, atol=1e-4)


def test_code_that_cuts_the_remaining_features_into_as_many_heads_gives_way_where_attention_is_nearly_even() -> None:
    attention = Attention(16, 2).eval()
    with torch.no_grad():
        attention.qkv.weight.mul_(0.05)
    network = nn.Sequential(attention, nn.Linear(16, 4)).eval()
    program = lm.import_model(network, (X[:1],)).apply("morph-bottleneck{layer=0.qkv iter=head factor=2}")
    exact, given = program.to_module().double()[0], X[:1].double()
    query, key, value = exact.qkv(given).unflatten(-1, (3, 8)).unbind(2)
    one_head = nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(exact(given), exact.proj(one_head), rtol=0, atol=1e-7)
