"""The signals of networks whose accuracy is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loopmorph.passes.errors import LoopmorphError
from loopmorph.pipelines.bench.rank_table import SIZE
from loopmorph.pipelines.bench.signal_rows import RowFile, SignalRow
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.pipelines.support.interrupts import noted_interrupts
from loopmorph.pipelines.support.progress import Progress, silent


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that has been trained.

    Attributes:
        name: by which it is known again.
        accuracy: what training gave, in per cent.
        measure: the scores of the signals of some names.
    """

    name: str
    accuracy: float
    measure: Callable[[Sequence[str]], dict[str, Score]]


@dataclass(frozen=True)
class SignalsFound:
    """What was measured.

    Attributes:
        rows: one for each network, those of earlier runs included, in the order of the networks.
        failed: why a network could not be measured, by its name.
        interrupted: whether the measuring was stopped.
    """

    rows: tuple[SignalRow, ...]
    failed: dict[str, str]
    interrupted: bool


def measure_signals(
    networks: Sequence[TrainedNetwork], signals: Sequence[str], file: RowFile, progress: Progress = silent
) -> SignalsFound:
    """Measures the signals that the file does not have yet, and MACs, network by network.

    Ctrl-C ends the measuring and keeps what was found. A network that cannot be measured costs itself alone.

    Args:
        networks: the networks.
        signals: names of signals.
        file: what was measured before; each network's row is added when it is done.
        progress: called with what is being done, the number of networks done and of those to do.

    Raises:
        ArgumentError: the file cannot be written.
    """
    wanted = tuple(dict.fromkeys([*signals, SIZE]))
    open_ones = [network for network in networks if _lacking(network, wanted, file)]
    failed: dict[str, str] = {}
    interrupted = False
    try:
        with noted_interrupts() as check:
            for done, network in enumerate(open_ones):
                progress("signals", done, len(open_ones))
                try:
                    found = network.measure(_lacking(network, wanted, file))
                except LoopmorphError as error:
                    failed[network.name] = str(error)
                else:
                    file.put(SignalRow(network.name, network.accuracy, {**_known(network, file), **found}))
                check()
            if open_ones:
                progress("signals", len(open_ones), len(open_ones))
    except KeyboardInterrupt:
        interrupted = True
    rows = (SignalRow(each.name, each.accuracy, file.rows[each.name].scores) for each in networks if _known(each, file))
    return SignalsFound(tuple(rows), failed, interrupted)


def _known(network: TrainedNetwork, file: RowFile) -> dict[str, Score]:
    row = file.rows.get(network.name)
    return dict(row.scores) if row is not None else {}


def _lacking(network: TrainedNetwork, wanted: Sequence[str], file: RowFile) -> tuple[str, ...]:
    known = _known(network, file)
    return tuple(name for name in wanted if name not in known)
