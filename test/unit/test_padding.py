"""Products with padding are left out, and nothing else: small images, where there are many."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [
        (4, 3, 1, 1),  # the whole image in one register block
        (8, 3, 1, 1),  # whole rows: columns are skipped, rows trimmed
        (7, 3, 1, 1),
        (16, 3, 2, 1),
        (9, 5, 1, 1),
        (6, 3, 1, 2),
        (5, 1, 1, 1),
    ],
)
def test_small_images_agree_with_pytorch(size: int, kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    padding = dilation * (kernel // 2)
    model = nn.Sequential(
        nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, kernel, stride, padding, dilation), nn.ReLU(), nn.Conv2d(32, 16, 1)
    ).eval()
    x = torch.randn(2, 16, size, size)
    executable = lm.compile(lm.import_model(model, (x,)).apply("morph-choose{layer=1 algorithm=direct}"))
    with torch.no_grad():
        torch.testing.assert_close(executable(x), model(x), rtol=1e-4, atol=1e-5)
