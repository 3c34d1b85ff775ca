"""Judging layers of a rewritten network with real code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from networks import Plain, Residual
from torch import nn
from transformed import network

from loopmorph.passes.history import parse_steps
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.proxy import FisherPotential
from loopmorph.pipelines.measure.check import WorkerChecker
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.search_space import RandomDrawer
from loopmorph.pipelines.training.task import Classification


class Pooled(nn.Sequential):
    """A linear layer behind `Flatten`, which leaves no nest: its nest reads the pooled map (N, C, 1, 1) itself."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def judge_of(program: Program, worker: Worker, folder: Path) -> LocalJudge:
    task = Classification(Batch(torch.randn(8, 3, 8, 8), torch.arange(8) % 10, 10, "random"))
    meter, checker = WorkerMeter(worker, TimingCache(folder)), WorkerChecker(worker)
    return LocalJudge(program, Gate.of(FisherPotential(task)), meter, checker, RandomDrawer(program, worker.target))


@pytest.mark.parametrize(
    ("model", "step", "changed"),
    [
        (Pooled, "morph-bottleneck{layer=0 iter=co factor=2}", ["0", "4"]),
        (Plain, "morph-bottleneck{layer=conv1 iter=co factor=2}", ["conv1", "conv2"]),
        (Residual, "morph-group{layer=block2.conv2 iters=co,ci factor=2}", ["block2.conv2"]),
    ],
)
def test_each_changed_layer_is_checked_and_timed(
    worker: Worker, model: type[nn.Module], step: str, changed: list[str], tmp_path: Path
) -> None:
    times = judge_of(network(model), worker, tmp_path).layer_times(parse_steps(step))
    assert [time.name for time in times] == changed
    assert all(time.ms_before > 0 and time.ms_after > 0 and time.macs_after < time.macs_before for time in times)


def test_which_weights_are_kept_is_nothing_to_time_again(worker: Worker, tmp_path: Path) -> None:
    judge = judge_of(network(Plain), worker, tmp_path)
    plain = "morph-bottleneck{layer=conv1 iter=co factor=2}"
    kept = "morph-bottleneck{layer=conv1 iter=co factor=2 keep=1,2,5,7}"
    first, second = (judge.network_time(parse_steps(text)) for text in (plain, kept))
    assert not first.cached and second.cached
    assert (second.original, second.rewritten) == (first.original, first.rewritten)
