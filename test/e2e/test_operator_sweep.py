"""A part of `operator_sweep.py` that is quick enough for every day: no wrong numbers, no crash, nothing raw."""

from __future__ import annotations

from collections.abc import Iterator

import operator_cases
import pytest
from case_runner import Runner
from sweep import lines_of, told
from verdicts import FAULTS, SKIPPED

# One of each kind of layer and function; the second argument set of each, whose weights and indices are compiled in.
CASES = (
    *(
        "nn:AdaptiveAvgPool2d:1",
        "nn:AvgPool3d:0",
        "nn:BatchNorm1d:1",
        "nn:ConstantPad2d:1",
        "nn:Conv1d:1",
        "nn:Conv3d:1",
    ),
    *("nn:ConvTranspose2d:1", "nn:CrossEntropyLoss:1", "nn:Embedding:1", "nn:GELU:1", "nn:GroupNorm:1", "nn:GRU:1"),
    *("nn:Hardtanh:1", "nn:InstanceNorm2d:1", "nn:LayerNorm:1", "nn:LSTM:1", "nn:MaxPool2d:1"),
    *("nn:MultiheadAttention:1", "nn:PixelShuffle:1", "nn:PReLU:1", "nn:TransformerEncoderLayer:1", "nn:Unfold:1"),
    *("functional:conv_transpose2d:1", "functional:fold:1", "functional:grid_sample:1", "functional:interpolate:1"),
    *("functional:max_pool1d_with_indices:1", "functional:pad:1", "functional:relu_:1", "functional:one_hot:1"),
    *("functional:scaled_dot_product_attention:1", "functional:upsample:1", "functional:cosine_similarity:1"),
    *(
        "torch:add:1",
        "torch:argmax:1",
        "torch:cat:1",
        "torch:clamp:1",
        "torch:cumsum:1",
        "torch:einsum:1",
        "torch:floor_divide:1",
    ),
    *(
        "torch:gather:1",
        "torch:index_select:1",
        "torch:logsumexp:1",
        "torch:matmul:1",
        "torch:maximum:1",
        "torch:nan_to_num:1",
    ),
    *(
        "torch:norm:1",
        "torch:roll:1",
        "torch:scatter:1",
        "torch:sort:1",
        "torch:split:1",
        "torch:topk:1",
        "torch:var:1",
        "torch:where:1",
    ),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner("operator_sweep:run", limit=120.0) as runner:
        yield runner


@pytest.mark.parametrize("case", CASES)
def test_right_or_refused_by_name(runner: Runner, case: str) -> None:
    lines = lines_of(runner.run(case))
    assert not [told(line) for line in lines if line.verdict in FAULTS]
    assert any(line.verdict != SKIPPED for line in lines), told(lines[0])


@pytest.mark.parametrize("suite", operator_cases.SUITES)
def test_every_operator_has_arguments(suite: str) -> None:
    """An operator that a new PyTorch brings and that nothing tries shows here."""
    assert not [name for name in operator_cases.names(suite) if not operator_cases.has_arguments(suite, name)]
