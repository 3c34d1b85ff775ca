"""Rows of suites, made up."""

from __future__ import annotations

from collections.abc import Callable

from loopmorph.passes.errors import CompilationFailed
from loopmorph.pipelines.bench.result import OURS, LayerRow, Missing, Request, Row, ThreadResult
from loopmorph.pipelines.bench.suite_result import Setting, SuiteResult, SuiteRow
from loopmorph.pipelines.bench.timm_networks import NETWORKS
from loopmorph.pipelines.support.progress import Progress

MS = 10.0  # of the fastest peer
SETTING = Setting(
    "a processor", {"torch": "2.13", "openvino": "1", "onnx": ""}, "s1", ("openvino",), 10, 0, "auto", None
)


def contender(name: str, ms: float, error: float = 1e-6, ratio: float | None = None, build: float = 4.0) -> Row:
    return Row(name, ms, ms, ratio, error, 1.0, 0.1, build, None, 500 << 20, 100 << 20, 2.0 / ms)


def measured(
    ratio: float, *, error: float = 1e-6, build: float = 4.0, layers: tuple[LayerRow, ...] = ()
) -> ThreadResult:
    """What OpenVINO takes `MS` for, and we so much less."""
    ours = contender(OURS, MS / ratio, error, ratio, build)
    return ThreadResult(1, 100.0, 20.0, 5000, "openvino", (ours, contender("openvino", MS, ratio=1.0)), (), layers, 2)


def without_ours(missing: Missing) -> ThreadResult:
    return ThreadResult(1, 100.0, 20.0, 5000, "openvino", (contender("openvino", MS, ratio=1.0),), (missing,))


def row(
    network: str, result: ThreadResult | float | None, batch: int = 1, threads: int = 1, failure: str = ""
) -> SuiteRow:
    """A row; a number is the ratio."""
    found = measured(result) if isinstance(result, float) else result
    return SuiteRow(network, NETWORKS[network], batch, threads, found, failure, 60.0)


def suite(*rows: SuiteRow, setting: Setting = SETTING) -> SuiteResult:
    return SuiteResult("timm", setting, rows)


class Recorded:
    """Performs requests by a table, and remembers them."""

    def __init__(
        self, ratio: Callable[[Request], float] = lambda _: 2.0, fails: str = "", stops_after: int = 99
    ) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self._ratio, self._fails, self._stops_after = ratio, fails, stops_after

    def __call__(self, request: Request, progress: Progress) -> ThreadResult:
        if len(self.asked) == self._stops_after:
            raise KeyboardInterrupt
        self.asked.append((request.model, request.batch, request.threads))
        progress("building", 0, 3)
        if request.model == self._fails:
            raise CompilationFailed("the benchmark's process was killed by SIGSEGV")
        return measured(self._ratio(request))
