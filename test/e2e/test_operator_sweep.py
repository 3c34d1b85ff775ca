"""A part of `operator_sweep.py` that is quick enough for every day: no wrong numbers, no crash, nothing raw."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from case_runner import Runner
from sweep import lines_of, told
from verdicts import FAULTS, SKIPPED

# One of each kind of layer and function; the second argument set of each, whose weights and indices are compiled in.
CHOSEN = {
    "nn": """
        AdaptiveAvgPool2d AvgPool3d BatchNorm1d ConstantPad2d Conv1d Conv3d ConvTranspose2d CrossEntropyLoss
        Embedding GELU GroupNorm GRU Hardtanh InstanceNorm2d LayerNorm LSTM MaxPool2d MaxUnpool2d MultiheadAttention
        PixelShuffle PReLU TransformerEncoderLayer Unfold
    """,
    "functional": """
        conv_transpose2d fold grid_sample interpolate max_pool1d_with_indices pad relu_ one_hot
        scaled_dot_product_attention upsample cosine_similarity
    """,
    "torch": """
        add argmax cat clamp cumsum einsum floor_divide gather index_select logsumexp matmul maximum nan_to_num norm
        roll scatter sort split topk var where
    """,
}
CASES = [f"{suite}:{name}:1" for suite, names in CHOSEN.items() for name in names.split()]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner("operator_sweep:run", limit=120.0) as runner:
        yield runner


@pytest.mark.parametrize("case", CASES)
def test_right_or_refused_by_name(runner: Runner, case: str) -> None:
    lines = lines_of(runner.run(case))
    assert not [told(line) for line in lines if line.verdict in FAULTS]
    assert any(line.verdict != SKIPPED for line in lines), told(lines[0])


@pytest.mark.parametrize("suite", CHOSEN)
def test_every_operator_has_arguments(suite: str) -> None:
    """An operator that a new PyTorch brings and that nothing tries shows here."""
    import operator_cases  # whose arguments take PyTorch seconds to list

    assert set(CHOSEN) == set(operator_cases.SUITES)
    assert not [name for name in operator_cases.names(suite) if not operator_cases.has_arguments(suite, name)]
