"""Random networks are compiled and compute what PyTorch computes, or are refused by name.

`random_networks.py` runs many more of the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from case_runner import Runner
from hypothesis import Phase, given, settings
from random_networks import RandomNetwork, random_networks
from sweep import lines_of, told
from verdicts import FAULTS


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner("random_networks:run", limit=120.0) as runner:
        yield runner


@settings(max_examples=25, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(network=random_networks())
def test_right_or_refused_by_name(runner: Runner, network: RandomNetwork) -> None:
    faults = [told(line) for line in lines_of(runner.run(str(network))) if line.verdict in FAULTS]
    assert not faults, faults
