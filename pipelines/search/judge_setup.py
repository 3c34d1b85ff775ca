"""What a judge is made of, as data that another process can be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from loopmorph.passes.target.target import Target
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.predicted_loss import PredictedLoss
from loopmorph.pipelines.measure.check import WorkerChecker
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.judge import HarmMeter, LocalJudge
from loopmorph.pipelines.search.search_space import RandomDrawer
from loopmorph.pipelines.search.sent_program import SentProgram


@dataclass(frozen=True)
class JudgeSetup:
    """All that judging candidates depends on.

    Attributes:
        original: the network, as it was imported.
        gate: decides what is legal.
        target: the processor.
        threads: threads of the compiled code.
        seed: of the inputs of numeric checks.
        torch_threads: threads of PyTorch, whose sums depend on it in the last bits.
        loss: what compares repaired networks with the original, where that can be asked for.
        harm: makes what measures the harm of variants, where that can be asked for.
    """

    original: SentProgram
    gate: Gate
    target: Target
    threads: int
    seed: int
    torch_threads: int
    loss: PredictedLoss | None = None
    harm: Callable[[Network], HarmMeter] | None = None


@contextmanager
def local_judge(setup: JudgeSetup) -> Iterator[LocalJudge]:
    """A judge in this process, which compiles and times in a worker process of its own."""
    torch.set_num_threads(setup.torch_threads)
    network = setup.original.program()
    with Worker(threads=setup.threads, target=setup.target) as worker, closing(TimingCache()) as cache:
        meter, checker = WorkerMeter(worker, cache), WorkerChecker(worker, setup.seed)
        drawer = RandomDrawer(network, setup.target)
        yield LocalJudge(network, setup.gate, meter, checker, drawer, setup.loss, setup.harm)
