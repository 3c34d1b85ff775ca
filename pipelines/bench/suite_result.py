"""What a suite of networks has given, as data and as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.bench.result import OURS, EqualLayers, Row, ThreadResult

Outcome = Literal["timed", "refused", "wrong", "failed", "no peer"]
SLOW = 1.0  # the ratio below which a network is slower than a peer
EXPLAINED = 1.2  # the ratio below which it is worth a look why


@dataclass(frozen=True)
class SuiteRow:
    """One network, as many images at a time, on as many threads.

    Attributes:
        network: its name.
        kind: what it is of: "cnn", "mixer" or "transformer".
        batch: images at a time.
        threads: threads of each contender.
        result: what was measured; None where the process came to no result.
        failure: why it did not, in one line.
        seconds: wall time that measuring took.
    """

    network: str
    kind: str
    batch: int
    threads: int
    result: ThreadResult | None
    failure: str = ""
    seconds: float = 0.0

    @property
    def ours(self) -> Row | None:
        """loopmorph's row, where it ran."""
        return self.result.row(OURS) if self.result is not None else None

    @property
    def peer(self) -> Row | None:
        """The fastest peer's row, where one ran."""
        name = self.result.fastest_peer if self.result is not None else None
        return self.result.row(name) if self.result is not None and name is not None else None

    @property
    def outcome(self) -> Outcome:
        """Whether it was timed beside a peer, or else what became of it (see `reason`)."""
        if self.ours is not None:
            if not self.ours.right:
                return "wrong"
            return "timed" if self.peer is not None else "no peer"
        return "refused" if any(each.kind == "refused" for each in self._missing) else "failed"

    @property
    def reason(self) -> str:
        """Why it was not timed, in one line; empty where it was."""
        if self.result is None:
            return self.failure
        if self.ours is None:
            return "; ".join(each.reason for each in self._missing)
        if not self.ours.right:
            return f"outputs differ from eager's by {self.ours.relative_error:.1e} of the largest value"
        return "" if self.peer is not None else "no peer runs it"

    @property
    def ratio(self) -> float | None:
        """The fastest peer's time over ours; None unless it was timed."""
        return self.ours.fastest_peer_over_this if self.ours is not None and self.outcome == "timed" else None

    def slowest_layers(self, count: int) -> list[EqualLayers]:
        """The layers that take most of our time, those that compute the same together; none where none were timed."""
        layers = self.result.distinct_layers if self.result is not None else []
        return sorted(layers, key=lambda each: -(each.ms or 0.0) * each.count)[:count]

    @property
    def _missing(self) -> list[Any]:
        return [each for each in self.result.missing if each.name == OURS] if self.result is not None else []

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> SuiteRow:
        """The row whose `dataclasses.asdict` this is."""
        result = data["result"]
        return SuiteRow(**{**data, "result": None if result is None else ThreadResult.from_dict(result)})


@dataclass(frozen=True)
class Setting:
    """What the rows of a suite depend on besides the network.

    Attributes:
        processor: its name, its model and what code is generated for.
        versions: of the peers' packages, of torch-mlir and of timm; empty for what is not installed.
        sources: a hash of loopmorph's source files.
        peers: who was asked to take part.
        rounds: rounds of calls, at most.
        seed: of weights, statistics and inputs.
        algorithm: "auto" or "direct".
        tune: seconds in which loopmorph could tune each network; None for not at all.
    """

    processor: str
    versions: Mapping[str, str]
    sources: str
    peers: tuple[str, ...]
    rounds: int
    seed: int
    algorithm: str
    tune: float | None

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Setting:
        """The setting whose `dataclasses.asdict` this is."""
        return Setting(**{**data, "peers": tuple(data["peers"])})


@dataclass(frozen=True)
class Summary:
    """Rows of one batch size and number of threads.

    Attributes:
        batch, threads: which.
        mean: geometric mean of the ratios; None where no network was timed.
        worst: the row with the least ratio.
        slow: how many ratios are below 1.
        outcomes: outcome -> how many networks.
        fastest: peer -> of how many networks it is the fastest.
    """

    batch: int
    threads: int
    mean: float | None
    worst: SuiteRow | None
    slow: int
    outcomes: Mapping[str, int]
    fastest: Mapping[str, int]


@dataclass(frozen=True)
class SuiteResult:
    """A suite, or as much of it as was asked for.

    Attributes:
        suite: its name.
        setting: what the rows depend on.
        rows: network by network.
        stopped: why it ended before its time; empty if it did not.
    """

    suite: str
    setting: Setting
    rows: tuple[SuiteRow, ...]
    stopped: str = ""

    def to_json(self) -> str:
        """Everything, as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> SuiteResult:
        """The result that `to_json` has written.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        data = json.loads(text)
        rows = tuple(SuiteRow.from_dict(row) for row in data["rows"])
        return SuiteResult(**{**data, "setting": Setting.from_dict(data["setting"]), "rows": rows})


def read_suite(path: Path) -> SuiteResult:
    """Reads the JSON of a suite.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        return SuiteResult.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is not what `loopmorph bench --suite timm --json` has written") from error


def summaries(rows: Iterable[SuiteRow]) -> list[Summary]:
    """One for each batch size and number of threads, in the order in which they come."""
    groups: dict[tuple[int, int], list[SuiteRow]] = {}
    for row in rows:
        groups.setdefault((row.batch, row.threads), []).append(row)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(batch: int, threads: int, rows: Sequence[SuiteRow]) -> Summary:
    timed = [(row.ratio, row) for row in rows if row.ratio is not None]
    ratios = [ratio for ratio, _ in timed]
    return Summary(
        batch,
        threads,
        statistics.geometric_mean(ratios) if ratios else None,
        min(timed, key=lambda pair: pair[0])[1] if timed else None,
        sum(ratio < SLOW for ratio in ratios),
        Counter(row.outcome for row in rows),
        Counter(row.peer.name for _, row in timed if row.peer is not None),
    )
