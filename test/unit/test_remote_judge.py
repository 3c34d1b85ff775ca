"""The process that judges candidates: it judges as one in this process does, and a crash costs one candidate."""

from __future__ import annotations

import os
import pickle
import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import factories
import pytest
import torch
from networks import Plain, image
from search_fakes import GROUP, SMALLER, candidate
from torch import nn

from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform
from loopmorph.passes.history import parse_steps
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.judge_setup import JudgeSetup
from loopmorph.pipelines.search.remote_judge import NotIsolatedWarning, RemoteJudge, ready
from loopmorph.pipelines.search.search_space import RandomDrawer
from loopmorph.pipelines.search.sent_program import SentProgram

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


def setup(program: Program) -> JudgeSetup:
    gate = Gate.of(DeadlyProxy())
    return JudgeSetup(SentProgram.of(program), gate, native_target(), 1, 0, torch.get_num_threads())


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
        ready(remote, setup(replace(plain, model=Locked().eval()))) as judge,
    ):
        assert isinstance(judge, LocalJudge)
        assert judge.score(parse_steps(SMALLER)).value == 1.0


def received(program: Program) -> Program:
    return pickle.loads(pickle.dumps(SentProgram.of(program))).program()


@pytest.mark.parametrize("make", [factories.classifier, lambda: factories.heads()[0]])
def test_a_network_is_received_as_it_was_sent(make: Callable[[], nn.Module]) -> None:
    """Its nests are sent, or where it returns more than tensors imported again; none of its tensors is sent twice."""
    model, x = make(), image()
    program = import_model(model, (x,))
    got, sent = received(program), SentProgram.of(program)
    assert str(got) == str(program) and got.steps == ()
    assert got.parameters.keys() == program.parameters.keys()
    assert all(torch.equal(tensor, program.parameters[name]) for name, tensor in got.parameters.items())
    assert not any(tensor is not None for tensor in sent.tensors.values())
    assert (sent.module is None) is isinstance(model(x), dict)
    results = got.results(got.model(x)), program.results(model(x))
    assert [each.shape for each in results[0]] == [each.shape for each in results[1]]


def test_constants_of_the_import_are_sent(plain: Program) -> None:
    kept = torch.arange(3.0)
    got = received(replace(plain, imported={**plain.imported, "constant": kept}))
    assert torch.equal(got.imported["constant"], kept)


def test_a_network_that_was_rewritten_is_not_sent(plain: Program) -> None:
    with pytest.raises(ArgumentError, match="'program': expected a network as it was imported, got one that was"):
        SentProgram.of(plain.apply(SMALLER))
