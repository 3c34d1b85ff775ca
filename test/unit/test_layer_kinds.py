"""Attention, recurrent layers of fixed length, parametrised weights, norms over permuted channels, einsum."""

from __future__ import annotations

import pytest
import torch
from agreement import Of, require_agreement
from torch import nn
from torch.nn.utils import parametrizations

# fmt: off
KINDS = {
    "attention": (lambda: Of(lambda m, x: m(x, x, x), nn.MultiheadAttention(16, 4, batch_first=True)), (2, 5, 16)),
    "lstm": (lambda: Of(lambda m, x: m(x)[0], nn.LSTM(8, 6, bidirectional=True)), (3, 2, 8)),
    "gru": (lambda: Of(lambda m, x: m(x)[0], nn.GRU(8, 6, batch_first=True)), (2, 3, 8)),
    "rnn": (lambda: Of(lambda m, x: m(x)[0], nn.RNN(8, 6, nonlinearity="relu")), (3, 8)),
    "weight-norm": (lambda: parametrizations.weight_norm(nn.Conv2d(3, 6, 3)), (1, 3, 6, 6)),
    "spectral-norm": (lambda: parametrizations.spectral_norm(nn.Linear(8, 6)), (2, 8)),
    "norm-of-channels": (lambda: Of(lambda a, n, b, x: b(n(a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
                                    nn.Conv2d(3, 16, 3), nn.LayerNorm(16), nn.Conv2d(16, 4, 1)), (1, 3, 6, 6)),
    "pool-of-permuted": (lambda: Of(lambda a, p, x: p(a(x).permute(0, 2, 3, 1)),
                                    nn.Conv2d(3, 8, 1), nn.MaxPool2d(2)), (1, 3, 6, 6)),
    "einsum": (lambda: Of(lambda x: torch.einsum("bhid,bhjd->bhij", x.unflatten(2, (2, 3)).transpose(1, 2),
                                                 x.unflatten(2, (2, 3)).transpose(1, 2))), (2, 4, 6)),
    "diagonal": (lambda: Of(lambda x: torch.einsum("bii->bi", x)), (2, 4, 4)),
}
# fmt: on


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_layer_agrees(name: str) -> None:
    make, shape = KINDS[name]
    torch.manual_seed(0)
    require_agreement(make(), torch.randn(shape), module=True)
