"""Margin losses, whose decompositions in PyTorch differ from its kernels where there is a NaN."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from decomposed import assert_same

import loopmorph as lm
from loopmorph.pipelines.ingress.decompositions import losses

REDUCTIONS = ["none", "mean", "sum"]


def scores(single: bool) -> torch.Tensor:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    x[0, 1] = math.nan
    return x[0] if single else x


@pytest.mark.parametrize(("single", "reduction"), list(itertools.product((False, True), range(3))))
def test_multilabel_margin(single: bool, reduction: int) -> None:
    x, target = scores(single), torch.tensor([[3, 0, -1, 2, 1], [-1, 1, 1, 1, 1], [4, 3, 2, 1, 0]])
    target = target[0] if single else target
    expected = F.multilabel_margin_loss(x, target, reduction=REDUCTIONS[reduction])
    assert_same(losses.multilabel_margin(x, target, reduction), expected)


def test_compiled_it_is_checked_with_a_nan() -> None:
    x, target = scores(single=False).nan_to_num(), torch.tensor([[3, 0, -1, 2, 1]] * 3)
    loss = torch.nn.MultiLabelMarginLoss()
    assert_same(lm.compile(loss, (x, target))(x, target), loss(x, target))


def test_a_loss_that_pytorch_exports_otherwise_is_refused() -> None:
    with pytest.raises(lm.ImportRefused, match=r"operator 'multi_margin_loss'.*differ where there is a NaN"):
        lm.import_model(torch.nn.MultiMarginLoss(), (scores(single=False), torch.tensor([4, 0, 2])))
