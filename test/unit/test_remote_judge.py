"""The process that judges candidates: it judges as one in this process does, and a crash costs one candidate."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from networks import Plain
from search_fakes import GROUP, SMALLER, candidate
from torch import nn

from loopmorph.passes.errors import CompilationFailed, IllegalTransform
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.remote_judge import NotIsolatedWarning, RemoteJudge, ready
from loopmorph.pipelines.search.search_space import RandomDrawer

LAST = "morph-bottleneck{layer=linear iter=co factor=2}"

pytestmark = pytest.mark.usefixtures("own_cache")


@dataclass(frozen=True)
class DeadlyProxy:
    """Counts steps; a step on a group ends the process that scores it."""

    name: str = "deadly"
    title: str = "Deadly score"
    larger_is_better: bool = True

    def score(self, network: Network) -> Score:
        if any("morph-group" in step for step in network.steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return Score(float(len(network.steps)))

    def describe(self) -> str:
        return self.name


def setup(program: Program, model: nn.Module | None = None) -> JudgeSetup:
    inputs = program.example_inputs
    gate = Gate.of(DeadlyProxy())
    return JudgeSetup(model or program.model, inputs, gate, native_target(), 1, 0, torch.get_num_threads())


@pytest.fixture(scope="module")
def judge(plain: Program) -> Iterator[RemoteJudge]:
    with RemoteJudge() as remote:
        remote.set_up(setup(plain))
        yield remote


def test_it_draws_what_this_process_would_draw(plain: Program, judge: RemoteJudge) -> None:
    here, there = random.Random(5), random.Random(5)
    local = RandomDrawer(plain, native_target())
    for _ in range(3):
        assert str(judge.draw("conv2", there)) == str(local.draw("conv2", here))
    assert here.getstate() == there.getstate()


def test_it_scores_and_refuses_as_the_network_does(judge: RemoteJudge) -> None:
    assert judge.score(()).value == 0.0 and judge.score(parse_steps(SMALLER)).value == 1.0
    assert judge.is_legal(parse_steps(SMALLER)) and not judge.is_legal(parse_steps(LAST))
    assert judge.is_applicable(parse_steps(SMALLER)) and not judge.is_applicable(parse_steps(LAST))
    with pytest.raises(IllegalTransform, match="its dimension is tied to the network's output"):
        judge.score(parse_steps(LAST))


def test_a_crash_costs_one_candidate(judge: RemoteJudge) -> None:
    verdict = judge.judge(candidate(GROUP))
    assert verdict.outcome == "failed"
    assert verdict.reason == "the process that judges was killed by SIGKILL"
    with pytest.raises(CompilationFailed, match="was killed by SIGKILL"):
        judge.score(parse_steps(GROUP))
    after = judge.judge(candidate(SMALLER))
    assert after.outcome == "accepted" and after.ms_before is not None and after.ms_before > 0


class Locked(Plain):
    """A network that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: object) -> Locked:
        return self


def test_a_network_that_cannot_be_sent_is_judged_here(plain: Program, tmp_path: Path) -> None:
    told = "judged in this process, which a crash of MLIR would end: cannot pickle"
    with (
        pytest.warns(NotIsolatedWarning, match=told),
        RemoteJudge() as remote,
        ready(remote, setup(plain, Locked().eval())) as judge,
    ):
        assert isinstance(judge, LocalJudge)
        assert judge.score(parse_steps(SMALLER)).value == 1.0
