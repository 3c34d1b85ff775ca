"""Judging rewrites of one network: the structural rules, the gate, the numeric check, the time."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from loopmorph.passes.errors import ArgumentError, CompilationFailed, IllegalTransform, LoopmorphWarning, WrongResult
from loopmorph.passes.history import Step, pipeline_text
from loopmorph.pipelines.legality.gate import BY_REPAIR, Criterion, Gate
from loopmorph.pipelines.legality.predicted_loss import Fitted, Judged, PredictedLoss
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.check import Checker
from loopmorph.pipelines.measure.meter import Meter, PairTime
from loopmorph.pipelines.measure.profile import Profile
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherit import plain_steps
from loopmorph.pipelines.search.search_space import Candidate, Drawer, candidate_layers
from loopmorph.pipelines.search.verdict import ACCEPTED, FAILED, STRUCTURE, WRONG, Verdict, refused

if TYPE_CHECKING:
    from loopmorph.pipelines.search.variants.harm_job import Harmed
    from loopmorph.pipelines.search.variants.kinds import Proposal

_REMEMBERED = 8  # rewritten networks


class MiscompiledWarning(LoopmorphWarning):
    """Compiled code computed something else than PyTorch; the text says which layer, and by which steps."""


@dataclass(frozen=True)
class LayerTime:
    """Milliseconds (see `PairTime`) of one layer before and after a rewrite, in turns; 0 once it is dropped."""

    name: str
    ms_before: float
    ms_after: float
    macs_before: int
    macs_after: int


class HarmMeter(Protocol):
    """Measures what variants of blocks do by themselves (see `GroupHarm`)."""

    def measure(self, group: Sequence[Proposal]) -> list[Harmed]:
        """What each of some variants changes and harms."""
        ...


class Judge(Drawer, Protocol):
    """Judges rewrites of one network, each given as the steps from the network as imported."""

    def judge(self, candidate: Candidate) -> Verdict:
        """Takes one candidate through the gates, in order of their cost; whatever goes wrong costs it alone."""
        ...

    def admit(self, candidate: Candidate) -> Verdict:
        """The first part of that: what needs no compiled code. "accepted", without times, leaves the rest to do."""
        ...

    def measure(self, candidate: Candidate, admitted: Verdict) -> Verdict:
        """The other part: the numeric check and the times of a candidate that was admitted."""
        ...

    def score(self, steps: Sequence[Step]) -> Score | None:
        """The score of the network after some steps by which assembled networks are judged; None where none are.

        Raises:
            IllegalTransform: the network does not admit a step, or its own code cannot run with the new shapes.
            CompilationFailed: the process that judges crashed.
        """
        ...

    def score_of_original(self) -> Score | None:
        """The score of the original by which candidates are ranked; None where none are scored.

        Raises:
            CompilationFailed: the process that judges crashed.
        """
        ...

    def is_legal(self, steps: Sequence[Step]) -> bool:
        """Whether the network admits the steps and passes the gate with them."""
        ...

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        """The weights with which the network after some steps was judged and found legal, or compared on all images.

        Those of the last such network alone are kept; None where it was another one.
        """
        ...

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        """Whether the network admits the steps."""
        ...

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        """Repairs the network after some steps and compares it with the original.

        Args:
            steps: from the original.
            share: of the images to do so with, in (0, 1].

        Raises:
            ArgumentError: the judge has no images to do so with.
            IllegalTransform: the network does not admit a step, or its own code cannot run with the new shapes.
            CompilationFailed: the process that judges crashed.
        """
        ...

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        """The time of the whole network after `baseline` and after `steps`, in turns or remembered.

        Raises:
            CompilationFailed: one of them cannot be compiled, crashes or hangs.
        """
        ...

    def profile(self) -> Profile:
        """How long each layer of the original takes within it.

        Raises:
            CompilationFailed: it cannot be compiled, crashes or hangs.
        """
        ...

    def layer_times(self, steps: Sequence[Step]) -> list[LayerTime]:
        """Checks and times every contraction layer that the steps change.

        Raises:
            IllegalTransform: the network does not admit a step, or no module can stand for a layer.
            CompilationFailed: a layer cannot be compiled, crashes or hangs.
            WrongResult: a layer differs from PyTorch.
        """
        ...

    def harm(self, group: Sequence[Proposal]) -> list[Harmed]:
        """What each of some variants changes and harms.

        Raises:
            ArgumentError: the judge has no minibatch to measure it on.
            CompilationFailed: the process that judges crashed.
        """
        ...

    def check_network(self, steps: Sequence[Step]) -> float:
        """Relative error of the whole compiled network.

        Raises:
            CompilationFailed: it cannot be compiled, crashes or hangs.
            WrongResult: it differs from PyTorch.
        """
        ...


@dataclass
class LocalJudge:
    """A `Judge` in this process; remembers what it has scored, checked and built.

    Attributes:
        original: the network that all rewrites are compared with.
        gate: decides what is legal.
        meter: times.
        checker: compares compiled code with PyTorch.
        drawer: draws candidates.
        loss: repairs networks and compares them with the original; None where nothing is asked of that kind.
        makes_harm: makes what measures the harm of variants of the original; None as well.
    """

    original: Network
    gate: Gate
    meter: Meter
    checker: Checker
    drawer: Drawer
    loss: PredictedLoss | None = None
    makes_harm: Callable[[Network], HarmMeter] | None = None
    _harm: HarmMeter | None = None
    _shares: dict[float, PredictedLoss] = field(default_factory=dict)
    _scores: dict[tuple[str, str], Score] = field(default_factory=dict)
    _checked: set[str] = field(default_factory=set)
    _networks: dict[str, Network] = field(default_factory=dict)

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        return self.drawer.draw(layer, generator)

    def judge(self, candidate: Candidate) -> Verdict:
        admitted = self.admit(candidate)
        return self.measure(candidate, admitted) if admitted.outcome == ACCEPTED else admitted

    def admit(self, candidate: Candidate) -> Verdict:
        texts = tuple(map(str, candidate.steps))
        if candidate.refusal is not None:
            return refused(texts, candidate.refusal)
        score: float | None = None
        try:
            if candidate.neural is not None:
                score, refusal = self._alone(candidate.neural)
                if refusal:
                    return Verdict(texts, self.gate.name, refusal, score)
        except IllegalTransform as refusal:
            return Verdict(texts, STRUCTURE, str(refusal), score)
        except (CompilationFailed, ArgumentError) as error:
            return Verdict(texts, FAILED, str(error), score)
        return Verdict(texts, ACCEPTED, "", score)

    def measure(self, candidate: Candidate, admitted: Verdict) -> Verdict:
        texts, score = admitted.transforms, admitted.score
        try:
            times = self.layer_times(candidate.steps)
        except IllegalTransform as refusal:
            return Verdict(texts, STRUCTURE, str(refusal), score)
        except WrongResult as error:
            warnings.warn(f"{error} (after {candidate})", MiscompiledWarning, stacklevel=2)
            return Verdict(texts, WRONG, str(error), score)
        except (CompilationFailed, ArgumentError) as error:
            return Verdict(texts, FAILED, str(error), score)
        before, after = sum(t.ms_before for t in times), sum(t.ms_after for t in times)
        return Verdict(texts, ACCEPTED, "", score, before, after)

    def score(self, steps: Sequence[Step]) -> Score | None:
        return None if self.gate.together is None else self._score(self.gate.together, steps)

    def score_of_original(self) -> Score | None:
        return self._score(self.gate.alone[-1], ()) if self.gate.alone else None

    def is_legal(self, steps: Sequence[Step]) -> bool:
        criterion = self.gate.together
        if criterion is None:
            return self.is_applicable(steps)
        try:
            return criterion.admits(self._score(criterion, steps), self._score(criterion, ()))
        except (IllegalTransform, ArgumentError):  # what others have changed may leave an option out of range
            return False

    def fitted(self, steps: Sequence[Step]) -> Fitted | None:
        together = None if self.gate.together is None else self.gate.together.proxy
        proxy = self.loss or together
        return proxy.kept(steps) if isinstance(proxy, PredictedLoss) else None

    def is_applicable(self, steps: Sequence[Step]) -> bool:
        try:
            self._after(steps)
        except (IllegalTransform, ArgumentError):
            return False
        return True

    def compare(self, steps: Sequence[Step], share: float = 1.0) -> Judged:
        if self.loss is None:
            raise ArgumentError("legality", f"networks are compared by '{BY_REPAIR}' alone, got '{self.gate.name}'")
        if share not in self._shares:
            self._shares[share] = self.loss.on_share(share)
        loss, network = self._shares[share], self._after(steps)
        found = loss.repaired(self.original, network)
        judged = loss.measure(self.original, found.program)
        if share >= 1:  # weights that are fitted to fewer images are not those of a result
            loss.keep(network, found, judged)
        return judged

    def network_time(self, steps: Sequence[Step], baseline: Sequence[Step] = ()) -> PairTime:
        # Which of the old weights are kept changes no code: what was timed before they were chosen is not timed again.
        return self.meter.network(self._after(plain_steps(baseline)), self._after(plain_steps(steps)))

    def profile(self) -> Profile:
        return self.meter.profile(self.original)

    def changed_layers(self, network: Network) -> list[str]:
        """The contraction layers whose nests differ from the original's, or are gone."""
        before, after = self.original.layer_texts, network.layer_texts
        return [name for name in candidate_layers(self.original) if before[name] != after.get(name)]

    def layer_times(self, steps: Sequence[Step]) -> list[LayerTime]:
        network = self._after(steps)
        work = [{layer.name: layer.macs for layer in each.layers} for each in (self.original, network)]
        times = []
        for name in self.changed_layers(network):
            macs = [each.get(name, 0) for each in work]
            if name not in network.nests_by_layer:
                seconds = self.meter.layer(self.original, self.original, name)
                times.append(LayerTime(name, seconds.original * 1e3, 0.0, *macs))
                continue
            self._check(network, name)
            seconds = self.meter.layer(self.original, network, name)
            times.append(LayerTime(name, seconds.original * 1e3, seconds.rewritten * 1e3, *macs))
        return times

    def harm(self, group: Sequence[Proposal]) -> list[Harmed]:
        if self.makes_harm is None:
            raise ArgumentError("harm", "the judge was set up without a minibatch to measure it on")
        if self._harm is None:
            self._harm = self.makes_harm(self.original)
        return self._harm.measure(group)

    def check_network(self, steps: Sequence[Step]) -> float:
        return self.checker.network(self._after(steps))

    def _alone(self, step: Step) -> tuple[float | None, str]:
        """The last score that a candidate has by itself, None where there is none, and why it is refused."""
        score: float | None = None
        for criterion in self.gate.alone:
            original = self._score(criterion, ())
            if original.doubt:
                return score, criterion.refusal(original, original)
            found = self._score(criterion, [step])
            score = found.value
            if not criterion.admits(found, original):
                return score, criterion.refusal(found, original)
        return score, ""

    def _score(self, criterion: Criterion, steps: Sequence[Step]) -> Score:
        key = criterion.proxy.name, pipeline_text(steps)
        if key not in self._scores:
            self._scores[key] = criterion.proxy.score(self._after(steps))
        return self._scores[key]

    def _check(self, network: Network, name: str) -> None:
        """Compares a compiled layer with PyTorch; equal layers once."""
        key = network.closed_layer(name)
        if key not in self._checked:
            self.checker.layer(network, name)
            self._checked.add(key)

    def _after(self, steps: Sequence[Step]) -> Network:
        key = pipeline_text(steps)
        if not key:
            return self.original
        if key not in self._networks:
            network = self.original.after(steps)
            while len(self._networks) >= _REMEMBERED:
                del self._networks[next(iter(self._networks))]
            self._networks[key] = network
        return self._networks[key]
