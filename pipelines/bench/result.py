"""What a benchmark is asked and what it found, as data that travels as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

OURS = "loopmorph"  # the name of our contender
UNTUNED = "loopmorph untuned"  # and beside it, where it is tuned, of what the model chooses by itself
WRONG = 1e-3  # a relative error that rounding does not explain


@dataclass(frozen=True)
class Stage:
    """What the benchmark's process is doing.

    Attributes:
        text: what, in a few words.
        done, of: steps done and steps of it.
        contender: whose code runs, so that a crash is known to be its.
    """

    text: str
    done: int
    of: int
    contender: str | None = None


@dataclass(frozen=True)
class Request:
    """What to measure.

    Attributes:
        model: as the command line takes it; of a suite, the network's name there.
        threads: number of threads.
        peers: names of peers.
        rounds: rounds of calls.
        seed: of weights, statistics and inputs.
        layers_below: each layer is timed, too, where the fastest peer's time over ours is less than this: infinity
            for always, 0 for never.
        crashed: contender -> why it is left out: it ended an earlier process.
        tune: seconds in which to tune the compiled network; the untuned one then runs beside it. None for not at all.
        algorithm: "auto", or "direct" for no Winograd in the compiled network.
        target: the processor that the contenders' code is for, as text; None for this computer.
        trust: whether code that a `.pt2` holds may run.
        suite: the suite that the network is of; empty for none.
        batch: images at a time, of a network of a suite.
        race_s: seconds after which no more rounds begin, once there were two; None for all rounds.
        explain_below: nests that could run faster are named, and layers timed, where that ratio is less than this.
    """

    model: str
    threads: int
    peers: tuple[str, ...]
    rounds: int
    seed: int
    layers_below: float = 0.0
    crashed: dict[str, str] = field(default_factory=dict)
    tune: float | None = None
    algorithm: str = "auto"
    target: str | None = None
    trust: bool = False
    suite: str = ""
    batch: int = 1
    race_s: float | None = None
    explain_below: float = 0.0


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        name: `loopmorph` or a peer's.
        median_ms: median time of a call, in milliseconds.
        min_ms: shortest time of a call, in milliseconds.
        fastest_peer_over_this: the median of the fastest peer with right outputs over this one's; None where there is
            no such peer.
        relative_error: largest difference from eager PyTorch's outputs, as a share of the largest.
        gflops: 1e9 operations a second, two for each multiply-accumulate of the network as it was given.
        share_of_peak: `gflops` over what was measured for this machine.
        build_s: seconds until the first calls were done.
        build_cached: whether that time is one of looking up code that an earlier build left; None where that is not
            known: peers have caches of their own.
        peak_bytes: the most memory that the process held while it was built and first called; None where the system
            does not say. loopmorph's is built first, so that no peer's is in its figure.
        added_bytes: that, less what the process held before.
        share_of_roof: the network's least time by `ThreadResult.roof_ms` over this one's median; Winograd, which makes
            fewer products, may come above 1.
    """

    name: str
    median_ms: float
    min_ms: float
    fastest_peer_over_this: float | None
    relative_error: float
    gflops: float
    share_of_peak: float
    build_s: float
    build_cached: bool | None = None
    peak_bytes: int | None = None
    added_bytes: int | None = None
    share_of_roof: float | None = None

    @property
    def right(self) -> bool:
        """Whether its outputs are eager PyTorch's but for rounding."""
        return self.relative_error <= WRONG


@dataclass(frozen=True)
class Missing:
    """A contender that did not run.

    Attributes:
        name: `loopmorph` or a peer's.
        reason: why, in one line.
        kind: whether it is not installed ("absent"), said that it does not take the network ("refused"), or "failed".
    """

    name: str
    reason: str
    kind: Literal["absent", "refused", "failed"] = "failed"


@dataclass(frozen=True)
class LayerRow:
    """One layer of the compiled program, timed within it.

    Attributes:
        name: its qualified name.
        extents: iterator -> extent of its main nest.
        macs: multiply-accumulate operations.
        bytes: memory that it has to read and write at least once: parameters, inputs and outputs.
        ms: median milliseconds of its nests in one call; None where it has none.
        gflops: 1e9 operations a second; None where it has no multiply-accumulates.
        share_of_peak: `gflops` over what was measured for this machine.
        same_as: name of an earlier layer that computes the same on other data.
        note: why there are no times.
    """

    name: str
    extents: Mapping[str, int | None]
    macs: int
    bytes: int
    ms: float | None = None
    gflops: float | None = None
    share_of_peak: float | None = None
    same_as: str | None = None
    note: str = ""

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: operations for each byte of `bytes`."""
        return 2 * self.macs / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class SlowRow:
    """A nest of the compiled program that could run faster (see `morph-print-slow-code`).

    Attributes:
        layer: its layer.
        role: what it does for the layer.
        extents: iterator -> extent.
        work: instructions on floating-point values that it executes.
        reasons: why, one line each.
        ms: median milliseconds of all nests of the layer in one call; None where that was not timed.
        share: of the network's time; None likewise.
    """

    layer: str
    role: str
    extents: Mapping[str, int | None]
    work: int
    reasons: tuple[str, ...]
    ms: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class EqualLayers:
    """Layers that compute the same on other data.

    Attributes:
        first: the first of them.
        count: how many there are.
        ms: mean of their milliseconds; None where none has a time.
        gflops: 1e9 operations a second at that mean; None where they have no time or no multiply-accumulates.
        share_of_peak: `gflops` over what was measured for this machine.
    """

    first: LayerRow
    count: int
    ms: float | None
    gflops: float | None
    share_of_peak: float | None


def _together(group: Sequence[LayerRow]) -> EqualLayers:
    timed = [row for row in group if row.ms is not None]
    if not timed:
        return EqualLayers(group[0], len(group), None, None, None)
    ms = statistics.mean(row.ms or 0.0 for row in timed)
    scale = (timed[0].ms or 0.0) / ms  # all have the same work
    speeds = [None if speed is None else speed * scale for speed in (timed[0].gflops, timed[0].share_of_peak)]
    return EqualLayers(group[0], len(group), ms, *speeds)


@dataclass(frozen=True)
class ThreadResult:
    """The contenders at one number of threads.

    Attributes:
        threads: how many.
        peak_gflops: measured 1e9 f32 operations a second of that many cores.
        bandwidth: measured 1e9 bytes a second between them and memory.
        macs: multiply-accumulate operations of the network.
        fastest_peer: name of the fastest peer with right outputs; None where there is none.
        rows: by median.
        missing: the contenders that did not run.
        layers: in program order; empty unless asked for.
        rounds: how many rounds of calls there were.
        slow: nests of our code that could run faster; empty unless asked for.
        moved_bytes: bytes of weights, inputs and outputs, which a call has to move at least.
        roof_ms: milliseconds that a call takes at least: the products of the network as it was given at peak, or its
            bytes at the bandwidth, whichever takes longer.
    """

    threads: int
    peak_gflops: float
    bandwidth: float
    macs: int
    fastest_peer: str | None
    rows: tuple[Row, ...]
    missing: tuple[Missing, ...]
    layers: tuple[LayerRow, ...] = ()
    rounds: int | None = None
    slow: tuple[SlowRow, ...] = ()
    moved_bytes: int | None = None
    roof_ms: float | None = None

    def row(self, name: str) -> Row | None:
        """A contender's, None where it did not run."""
        return next((row for row in self.rows if row.name == name), None)

    @property
    def distinct_layers(self) -> list[EqualLayers]:
        """The layers, those that compute the same together, in the order of their first ones."""
        groups: dict[str, list[LayerRow]] = {}
        for row in self.layers:
            groups.setdefault(row.same_as or row.name, []).append(row)
        return [_together(group) for group in groups.values()]

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ThreadResult:
        """The result whose `dataclasses.asdict` this is."""
        parts = {"rows": Row, "missing": Missing, "layers": LayerRow}
        lists = {name: tuple(kind(**each) for each in data[name]) for name, kind in parts.items()}
        slow = tuple(SlowRow(**{**each, "reasons": tuple(each["reasons"])}) for each in data.get("slow", ()))
        return ThreadResult(**{**data, **lists, "slow": slow})


@dataclass(frozen=True)
class BenchResult:
    """A whole benchmark.

    Attributes:
        model: what was asked for.
        seed: of weights, statistics and inputs.
        rounds: rounds of calls.
        cpu: the processor's name.
        results: one for each number of threads.
        target: the processor that the code was for, where it is not simply this computer.
    """

    model: str
    seed: int
    rounds: int
    cpu: str
    results: Sequence[ThreadResult] = field(default=())
    target: str | None = None

    def to_json(self) -> str:
        """The result as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"
