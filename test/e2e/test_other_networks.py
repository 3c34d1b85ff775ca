"""Networks that are no classifiers are compiled and compute what PyTorch computes, in the structure that it returns."""

from __future__ import annotations

import other_networks
import pytest
from verdicts import COMPILE, RIGHT, judge


@pytest.mark.parametrize("name", other_networks.NETWORKS)
def test_network(name: str) -> None:
    model, inputs = other_networks.create(name)
    (finding,) = judge(model, other_networks.probes(inputs), doors=(COMPILE,)).findings
    assert finding.verdict == RIGHT, finding.reason
