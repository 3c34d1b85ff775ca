"""Random compositions of neural and loop transformations: refused, or the compiled network is the trainable module.

`random_compositions.py` runs many more of the same cases.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from case_runner import Runner
from hypothesis import Phase, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner("compositions:run") as runner:
        yield runner


@pytest.fixture(scope="module")
def transformers() -> Iterator[Runner]:
    with Runner("compositions:run_transformer") as runner:
        yield runner


@settings(max_examples=16, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))  # not `st.randoms`: its draws are mostly the simplest, which are refused
def test_random_compositions_are_refused_or_compute_what_their_module_does(runner: Runner, seed: int) -> None:
    report = runner.run(seed)
    assert report.kind == "done", report.text


@settings(max_examples=4, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_those_of_a_transformer_block_as_well(transformers: Runner, seed: int) -> None:
    report = transformers.run(seed)
    assert report.kind == "done", report.text


def test_a_step_that_is_refused_is_told_from_one_that_fails(runner: Runner) -> None:
    report = runner.run(("stack-16", "morph-bottleneck{layer=linear iter=co factor=2}"))
    assert report.kind == "error"
    assert "tied to the network's output" in report.text


@pytest.mark.parametrize(
    ("network", "steps"),
    [
        # The activation that it reads is stored in vectors when its zeros are looked for.
        ("resnet-16", "morph-narrow{layer=block.conv1 iter=ci begin=3}"),
        # Contractions whose weight is no parameter for the register block, and whose layer has several nests.
        ("resnet-16", "morph-mix{layer=block.conv2 iter=kw}"),
        ("resnet-16", "morph-mix{layer=linear iter=ci}"),
        ("stack-16", "morph-group{layer=linear iters=co,ci factor=2},morph-partition{layer=linear iter=co sizes=4,0}"),
        ("resnet-16", "morph-partition{layer=mean iter=c parts=4}"),
    ],
)
def test_compositions_that_went_wrong_once(runner: Runner, network: str, steps: str) -> None:
    report = runner.run((network, steps))
    assert report.kind == "done", report.text


def test_a_layer_between_activations_in_blocks_has_no_module(runner: Runner) -> None:
    pack = "morph-pack{layer=max_pool2d_with_indices operand=output axes=2,3 factors=2,2}"
    report = runner.run(("stack-16", f"{pack},morph-group{{layer=conv2 iters=oh factor=4}}"))
    assert report.kind == "done", report.text
    assert report.outcome["ending"] == "refused by PyTorch"
    assert "in blocks" in report.outcome["reason"]
