"""The truth about an assembled network: what its predictions have lost, and how long it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from loopmorph.passes.errors import CompilationFailed, LoopmorphError
from loopmorph.passes.history import Step, pipeline_text
from loopmorph.pipelines.legality.predicted_loss import Fitted
from loopmorph.pipelines.search.joint.joint_loss import Compared, CompareJob, JointLoss
from loopmorph.pipelines.search.joint.trial_store import Forgetful, TrialStore
from loopmorph.pipelines.search.judge import Judge
from loopmorph.pipelines.search.tuner import Tuner
from loopmorph.pipelines.search.workers.dispatcher import Dispatcher

SHARES = (0.25, 1.0)  # of the images, of each level
_TIME = "time"


class Truth(Protocol):
    """Judges assembled networks, each given as the steps from the original."""

    @property
    def levels(self) -> int:
        """How many levels of care there are; the last one has all images, those before it fewer."""
        ...

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        """Whether the network admits the steps."""
        ...

    def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
        """What the network with these steps has lost, measured at a level from 0.

        Raises:
            IllegalTransform: the network's own code cannot run with the new shapes.
            CompilationFailed: the process that judges crashed.
        """
        ...

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        """The weights with which the network with these steps, the last one that was, was judged on all images.

        None where they are not at hand: it was judged elsewhere, or at another time.
        """
        ...

    def begin(self, asked: Sequence[tuple[Sequence[Step], int]]) -> None:
        """Says of what networks, at what levels, `loss` will be asked next: it may measure several at once."""
        ...

    def drop(self) -> None:
        """What was begun, and is not asked for by now, will not be: nothing goes on."""
        ...

    def milliseconds(self, steps: Sequence[Step]) -> float:
        """How long the whole network takes, in the table's milliseconds.

        Raises:
            CompilationFailed: it cannot be compiled, crashes or hangs.
            WrongResult: compiled, it differs from PyTorch.
        """
        ...


@dataclass
class JudgedTruth:
    """The truth as a `Judge` measures it; each network once, and what a store knows not at all.

    Times are measured in turns with the original's; what counts is the ratio, as clocks drift: milliseconds are that
    share of what the table says of the original.

    With a tuner, the code of a chosen operator is part of the choice: each network that is timed, the original and the
    baselines among them, has the algorithms and register blocks that were measured as the fastest for its layers.

    Attributes:
        judge: repairs, compares, compiles, checks and times.
        original_ms: what the table says of the original.
        store: what was measured before; keeps what is measured now.
        shares: of the images, for each level.
        tuner: tunes what is timed; None leaves code to the compiler's model.
        workers: compare those networks that are known ahead, side by side; None for one after the other, by `judge`.
    """

    judge: Judge
    original_ms: float
    store: TrialStore = field(default_factory=Forgetful)
    shares: tuple[float, ...] = SHARES
    tuner: Tuner | None = None
    workers: Dispatcher | None = None
    _begun: dict[CompareJob, tuple[Sequence[Step], Future[Compared]]] = field(default_factory=dict)
    _ended: dict[CompareJob, Compared] = field(default_factory=dict)
    _applicable: dict[str, bool] = field(default_factory=dict)

    @property
    def levels(self) -> int:
        return len(self.shares)

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        key = pipeline_text(steps)
        if key not in self._applicable:
            self._applicable[key] = self.judge.is_applicable(steps)
        return self._applicable[key]

    def begin(self, asked: Sequence[tuple[Sequence[Step], int]]) -> None:
        if self.workers is None:
            return
        jobs = {self._job(steps, level): steps for steps, level in asked}
        new = {job: steps for job, steps in jobs.items() if self._is_new(job, steps)}
        if len(new) > 1:
            self._begun.update({job: (steps, self.workers.ask(job)) for job, steps in new.items()})

    def drop(self) -> None:
        if self._begun and self.workers is not None:
            self.workers.close()
        self._begun.clear()

    def loss(self, steps: Sequence[Step], level: int) -> JointLoss:
        job = self._job(steps, level)
        while job in self._begun:
            self._collect()
        found = self._ended.pop(job, Compared())
        if found.refused:
            raise CompilationFailed(found.refused)
        known = found.loss or self._known(job, steps)
        if known is not None:
            return known
        return self._keep(job, steps, JointLoss.of(self.judge.compare(steps, job.share)))

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        return self.judge.fitted(steps)

    def _job(self, steps: Sequence[Step], level: int) -> CompareJob:
        return CompareJob(pipeline_text(steps), self.shares[level])

    def _is_new(self, job: CompareJob, steps: Sequence[Step]) -> bool:
        return job not in self._begun and job not in self._ended and self._known(job, steps) is None

    def _known(self, job: CompareJob, steps: Sequence[Step]) -> JointLoss | None:
        return _loss_from(self.store.get(_kind(job), steps))

    def _keep(self, job: CompareJob, steps: Sequence[Step], loss: JointLoss) -> JointLoss:
        self.store.put(_kind(job), steps, dataclasses.asdict(loss))
        return loss

    def _collect(self) -> None:
        """Waits for one more of what was begun, and keeps all that has ended.

        What those who compared have ended over is left to the judge.
        """
        wait([future for _, future in self._begun.values()], return_when=FIRST_COMPLETED)
        for job in [each for each, (_, future) in self._begun.items() if future.done()]:
            steps, future = self._begun.pop(job)
            try:
                found = future.result()
            except LoopmorphError:  # no worker is left
                continue
            if not found.failure:
                self._ended[job] = found
            if found.loss is not None:
                self._keep(job, steps, found.loss)

    def milliseconds(self, steps: Sequence[Step]) -> float:
        kind = _TIME if self.tuner is None else f"{_TIME} tuned {self.tuner.seconds:g} s"
        share = _number_from(self.store.get(kind, steps), "share")
        if share is None:
            while self._begun:
                self._collect()  # nothing is to disturb what is timed
            timed, baseline = (self._tuned(each) for each in (steps, ()))
            self.judge.check_network(timed)
            times = self.judge.network_time(timed, baseline)
            share = times.rewritten / times.original
            self.store.put(kind, steps, {"share": share})
        return share * self.original_ms

    def _tuned(self, steps: Sequence[Step]) -> Sequence[Step]:
        return steps if self.tuner is None else self.tuner.steps(steps)


def _kind(job: CompareJob) -> str:
    """What it measures, for the store."""
    return f"loss {job.share:g}"


def _loss_from(content: Mapping[str, Any] | None) -> JointLoss | None:
    try:
        return None if content is None else JointLoss(**content)
    except TypeError:  # somebody else has written there
        return None


def _number_from(content: Mapping[str, Any] | None, name: str) -> float | None:
    value = None if content is None else content.get(name)
    return value if isinstance(value, float) else None
