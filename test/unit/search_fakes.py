"""A proxy, a meter and a checker that say what a test wants, a judge of these, and steps for it to judge."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loopmorph.passes.errors import LoopmorphError
from loopmorph.passes.history import Step, layer_of, parse_steps
from loopmorph.pipelines.legality.gate import Gate
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.measure.meter import PairTime
from loopmorph.pipelines.measure.profile import Profile
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.search.combiner import Judged
from loopmorph.pipelines.search.judge import LocalJudge
from loopmorph.pipelines.search.search_space import Candidate
from loopmorph.pipelines.search.verdict import Verdict

# steps on `Plain`
GROUP = "morph-group{layer=conv2 iters=co,ci factor=2}"
SMALLER = "morph-bottleneck{layer=conv1 iter=co factor=2}"
TAPS = "morph-bottleneck{layer=conv2 iter=kh factor=3}"
LOOPS = "morph-split{layer=conv1 iter=ow factor=4}"


@dataclass
class FakeProxy:
    """Scores by the recorded steps, in their order; 1.0 where nothing is said."""

    scores: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    larger_is_better: bool = True
    name: str = "fake"
    title: str = "Fake score"
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def score(self, network: Network) -> Score:
        self.asked.append(network.steps)
        return Score(self.scores.get(network.steps, 1.0))

    def describe(self) -> str:
        return self.name


@dataclass
class FakeMeter:
    """Seconds by layer, and of the network by its steps, after a rewrite; 1.0 before, and where nothing is said."""

    layers: Mapping[str, float] = field(default_factory=dict)
    networks: Mapping[tuple[str, ...], float] = field(default_factory=dict)

    def layer(self, original: Network, rewritten: Network, layer: str) -> PairTime:
        return PairTime(1.0, self.layers.get(layer, 1.0))

    def network(self, original: Network, rewritten: Network) -> PairTime:
        return PairTime(1.0, self.networks.get(rewritten.steps, 1.0))

    def profile(self, network: Network) -> Profile:
        return Profile({name: 1.0 for name in network.layer_texts}, float(len(network.layer_texts)))


@dataclass
class FakeChecker:
    """Raises what is said of a layer, and under "" of the whole network."""

    errors: Mapping[str, LoopmorphError] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)

    def layer(self, network: Network, name: str) -> float:
        self.checked.append(name)
        return self._verdict(name)

    def network(self, network: Network) -> float:
        return self._verdict("")

    def _verdict(self, name: str) -> float:
        if name in self.errors:
            raise self.errors[name]
        return 0.0


@dataclass
class FakeDrawer:
    """Gives the candidates of a list, one after the other, whatever layer is asked for; then none."""

    candidates: list[Candidate] = field(default_factory=list)

    def draw(self, layer: str, generator: random.Random) -> Candidate:
        return self.candidates.pop(0) if self.candidates else Candidate(layer, None, ())


def candidate(text: str) -> Candidate:
    """The candidate of some steps: neural first, then loop steps."""
    steps: Sequence[Step] = parse_steps(text)
    neural = steps[0] if steps[0].kind == "neural" else None
    return Candidate(layer_of(steps[0]) or "", neural, tuple(steps[1:] if neural else steps))


def judged(text: str, before: float, after: float) -> Judged:
    """An accepted candidate with its milliseconds."""
    entry = candidate(text)
    return Judged(entry, Verdict(tuple(map(str, entry.steps)), "accepted", "", 1.0, before, after))


def judge(
    network: Network,
    proxy: FakeProxy | None = None,
    meter: FakeMeter | None = None,
    checker: FakeChecker | None = None,
    drawn: Sequence[str] = (),
    gate: Gate | None = None,
) -> LocalJudge:
    """A judge that measures nothing; its gate is that of the proxy, unless there is another one."""
    drawer = FakeDrawer([candidate(text) for text in drawn])
    return LocalJudge(
        network, gate or Gate.of(proxy or FakeProxy()), meter or FakeMeter(), checker or FakeChecker(), drawer
    )
