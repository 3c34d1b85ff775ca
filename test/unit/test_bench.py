"""`loopmorph bench`: what it measures and writes, who is left out and why, and what it refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, CompilationFailed
from loopmorph.pipelines.bench import contenders
from loopmorph.pipelines.bench.bench import bench, measure
from loopmorph.pipelines.bench.bench_worker import fastest_peer, randomise_statistics
from loopmorph.pipelines.bench.contenders import missing
from loopmorph.pipelines.bench.direct_code import with_algorithm
from loopmorph.pipelines.bench.result import BenchResult, LayerRow, Missing, Request, Row, ThreadResult
from loopmorph.pipelines.bench.roofline import roofline
from loopmorph.pipelines.compile import compile
from loopmorph.pipelines.program import import_model
from loopmorph.pipelines.support.agreement import largest_error
from loopmorph.tools.cli import main

NETWORK = """
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 7),
    )

network.input_shape = (3, 8, 8)
"""
MACS = (3 * 9 + 8 * 9 + 8 * 9) * 8 * 64 + 128 * 7


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str
    data: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One real run of the command."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "bench_net.py").write_text(NETWORK)
    arguments = ["bench", "bench_net:network", "--peers", "eager", "--rounds", "1", "--layers", "--explain-slow"]
    arguments += ["--json", "out.json"]
    with pytest.MonkeyPatch.context() as patch, _Captured() as captured:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        code = main(arguments)
    return Run(code, captured.out, captured.err, json.loads((folder / "out.json").read_text()), folder)


class _Captured:
    """Standard output and error; `capsys` serves single tests only."""

    def __enter__(self) -> _Captured:
        self._streams = io.StringIO(), io.StringIO()
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(contextlib.redirect_stdout(self._streams[0]))
        self._stack.enter_context(contextlib.redirect_stderr(self._streams[1]))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.out, self.err = (stream.getvalue() for stream in self._streams)


def test_json_holds_the_contenders(run: Run) -> None:
    assert run.code == 0
    assert {key: run.data[key] for key in ("model", "seed", "rounds")} == {
        "model": "bench_net:network",
        "seed": 0,
        "rounds": 1,
    }
    (result,) = run.data["results"]
    assert (result["threads"], result["macs"], result["fastest_peer"]) == (1, MACS, "eager")
    assert result["missing"] == [] and result["rounds"] == 1
    rows = {row["name"]: row for row in result["rows"]}
    assert set(rows) == {"loopmorph", "eager"}
    for row in rows.values():
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["gflops"] == pytest.approx(2 * MACS / row["median_ms"] / 1e6)
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / result["peak_gflops"])
        assert row["share_of_roof"] == pytest.approx(result["roof_ms"] / row["median_ms"])
        ratio = rows["eager"]["median_ms"] / row["median_ms"]
        assert row["fastest_peer_over_this"] == pytest.approx(ratio)
        if row["peak_bytes"] is not None:  # else the system does not say
            assert 0 <= row["added_bytes"] < row["peak_bytes"]
    assert rows["loopmorph"]["relative_error"] < 1e-4
    assert rows["eager"]["relative_error"] == 0.0


def test_the_roof_is_of_products_and_bytes(run: Run) -> None:
    (result,) = run.data["results"]
    weights = 8 * 27 + 2 * 8 * 72 + 2 * 8 + 128 * 7 + 7  # convolutions, BatchNorm, the linear layer
    assert result["moved_bytes"] == 4 * (weights + 3 * 64 + 7)
    times = 2 * MACS / result["peak_gflops"], result["moved_bytes"] / result["bandwidth"]
    assert result["roof_ms"] == pytest.approx(max(times) / 1e6)


def test_nests_that_could_run_faster_are_named(run: Run) -> None:
    (result,) = run.data["results"]
    for row in result["slow"]:
        assert row["work"] >= 1000 and row["reasons"] and row["role"]


def test_rows_are_in_order_of_time(run: Run) -> None:
    medians = [row["median_ms"] for row in run.data["results"][0]["rows"]]
    assert medians == sorted(medians)


def test_layers_are_timed_within_the_network(run: Run) -> None:
    layers = {row["name"]: row for row in run.data["results"][0]["layers"]}
    assert list(layers) == ["0", "3", "4", "5", "7"]  # no element-wise ones
    assert layers["0"]["macs"] == 3 * 9 * 8 * 64
    assert layers["0"]["bytes"] == 4 * (3 * 64 + 8 * 3 * 9 + 8 * 64)
    assert [row["same_as"] for row in layers.values()] == [None, None, "3", None, None]
    assert layers["5"]["gflops"] is None
    assert sum(row["macs"] for row in layers.values()) == MACS
    assert all(row["ms"] > 0 and row["note"] == "" for row in layers.values())


def test_tables_fit_eighty_columns_and_say_everything(run: Run) -> None:
    assert max(len(line) for line in run.out.splitlines()) <= 80
    assert "contender median ms" in " ".join(run.out.split())
    for heading in (
        "min ms",
        "peer/this",
        "rel. error",
        "GFLOP/s",
        "% of peak",
        "% of roof",
        "build s",
        "M MACs",
        "extents",
    ):
        assert heading in run.out
    assert "fastest peer: eager" in run.out
    assert "5 layers, 4 of them distinct" in run.out
    assert "…" not in run.out


def test_result_survives_json(run: Run) -> None:
    results = tuple(ThreadResult.from_dict(each) for each in run.data["results"])
    assert json.loads(BenchResult(**{**run.data, "results": results}).to_json()) == run.data


def test_nothing_but_the_json_is_left(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} - {"__pycache__"} == {"bench_net.py", "out.json"}


def test_contenders_that_fail_or_crash_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that kills the process costs only itself; the process begins again without it."""
    (tmp_path / "bench_net2.py").write_text(NETWORK)
    for name, code in (
        ("openvino", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"),
        ("onnxruntime", "raise RuntimeError('no such\\nlibrary')\n"),
        ("onnx", ""),
        ("onnxscript", ""),
    ):
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    stages: list[str] = []
    result = bench(
        "bench_net2:network",
        peers=["openvino", "onnxruntime"],
        rounds=1,
        progress=lambda stage, done, of: stages.append(stage),
    )
    (found,) = result.results
    reasons = {each.name: each.reason for each in found.missing}
    assert reasons["openvino"].startswith("its process was killed by SIGKILL")
    assert reasons["onnxruntime"] == "RuntimeError: no such"
    assert {each.kind for each in found.missing} == {"failed"}
    assert [row.name for row in found.rows] == ["loopmorph"]
    assert (found.fastest_peer, found.rows[0].fastest_peer_over_this) == (None, None)
    assert "1 thread: building openvino" in stages


def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CompilationFailed, match=r"the benchmark's process was ended after 0\.01 s"):
        measure(Request("resnet18", 1, (), 1, 0), limit=0.01)


def test_a_peer_with_wrong_outputs_is_not_the_fastest() -> None:
    medians = {"loopmorph": 1.0, "eager": 4.0, "inductor": 3.0, "onnxruntime": 0.5, "openvino": 0.6}
    errors = {"loopmorph": 1e-6, "eager": 0.0, "inductor": 1e-5, "onnxruntime": 0.1, "openvino": float("nan")}
    assert fastest_peer(medians, errors) == "inductor"
    assert fastest_peer({"loopmorph": 1.0, "openvino": 0.6}, errors) is None


def test_tuned_code_runs_beside_what_the_model_chooses(tmp_path: Path) -> None:
    (tmp_path / "tuned_net.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        result = measure(Request("tuned_net:network", 1, (), 1, 0, tune=1.0))
    rows = {row.name: row for row in result.rows}
    assert set(rows) == {"loopmorph", "loopmorph untuned"} and result.fastest_peer is None
    assert all(row.relative_error < 1e-4 for row in rows.values())


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="OpenVINO is installed here")
def test_a_missing_peer_says_what_installs_it() -> None:
    assert missing("openvino") == "openvino not installed: pip install 'loopmorph[peers]'"
    assert missing("eager") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peers", "eager,openvin"], "argument 'peers': 'openvin' is not known; did you mean 'openvino'?; accepted"),
        (["--peers", "tvm"], "argument 'peers': 'tvm' is not known; accepted are eager, inductor, onnxruntime, open"),
        (["--threads", "1,0"], "argument 'threads': expected positive whole numbers, got 0"),
        (["--threads", "two"], "argument 'threads': expected whole numbers separated by commas, got 'two'"),
        (["--rounds", "0"], "argument 'rounds': expected positive whole numbers, got 0"),
        (["--json", "no/such/folder.json"], "argument 'json': cannot write 'no/such/folder.json': there is no folder"),
        (["--plot", "."], "argument 'plot': cannot write '.': it is a folder"),
    ],
)
def test_refused_arguments(arguments: list[str], message: str, refused: Callable[[Sequence[str]], str]) -> None:
    assert refused(["bench", "resnet18", *arguments]).startswith(f"error: {message}")


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "resnet3", "--peers", "eager"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: argument 'model': 'resnet3' is not known; did you mean")


def test_statistics_depend_on_the_seed_alone() -> None:
    first, second, other = (nn.BatchNorm2d(4) for _ in range(3))
    for module, seed in ((first, 1), (second, 1), (other, 2)):
        randomise_statistics(module, seed)
    assert torch.equal(first.running_var, second.running_var)
    assert not torch.equal(first.running_var, other.running_var)
    assert not torch.equal(first.weight, torch.ones(4))


def test_outputs_in_any_structure_are_compared() -> None:
    tensors = contenders._arrays({"logits": torch.ones(2), "others": (torch.zeros(1), None, 3)})
    assert [array.tolist() for array in tensors] == [[1.0, 1.0], [0.0]]


def test_relative_error() -> None:
    a, b = np.array([1.0, -4.0]), np.array([1.0, -5.0])
    assert largest_error((a,), (b,)) == pytest.approx(0.2)
    assert largest_error((a, b), (a,)) == float("inf")
    assert largest_error((a[:1],), (a,)) == float("inf")
    assert np.isnan(largest_error((np.array([np.nan]),), (np.array([1.0]),)))


def layer(name: str, gflops: float | None, n_bytes: int = 1000, same_as: str | None = None) -> LayerRow:
    return LayerRow(name, {"n": 1}, 5000, n_bytes, ms=0.1, gflops=gflops, share_of_peak=0.1, same_as=same_as)


def with_layers(*layers: LayerRow) -> BenchResult:
    row = Row("loopmorph", 1.0, 0.9, None, 1e-6, 10.0, 0.1, 2.0)
    result = ThreadResult(1, 100.0, 20.0, 5000, None, (row,), (Missing("eager", "left out"),), layers)
    return BenchResult("net", 0, 1, "cpu", (result,))


def test_layers_that_compute_the_same_are_shown_at_their_mean_time() -> None:
    rows = (
        LayerRow("a", {}, 5000, 0, ms=1.0, gflops=12.0, share_of_peak=0.12),
        LayerRow("pool", {}, 0, 0, ms=0.5),
        LayerRow("b", {}, 5000, 0, ms=3.0, gflops=4.0, share_of_peak=0.04, same_as="a"),
        LayerRow("gone", {}, 10, 0, note="it is computed in the nests of other layers"),
    )
    same, pool, gone = with_layers(*rows).results[0].distinct_layers
    assert (same.first.name, same.count, same.ms) == ("a", 2, 2.0)
    assert (same.gflops, same.share_of_peak) == (pytest.approx(6.0), pytest.approx(0.06))
    assert (pool.first.name, pool.count, pool.ms, pool.gflops) == ("pool", 1, 0.5, None)
    assert (gone.first.name, gone.ms) == ("gone", None)


def test_picture_is_a_png_with_a_panel_for_each_thread_count() -> None:
    pytest.importorskip("matplotlib")
    one = with_layers(layer("conv1", 50.0), layer("conv2", 50.0, same_as="conv1"), layer("conv3", 2.0, 30))
    two = BenchResult("net", 0, 1, "cpu", (*one.results, *one.results))
    heights = []
    for result in (one, two):
        data = roofline(result)
        assert data.startswith(b"\x89PNG\r\n")
        heights.append(int.from_bytes(data[20:24], "big"))
    assert heights[1] == 2 * heights[0]


def test_picture_without_layers_is_refused() -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ArgumentError, match="no layer of 'net' was timed, so there is nothing to draw"):
        roofline(with_layers(layer("pool", None)))


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is installed here")
def test_picture_without_matplotlib_says_what_installs_it() -> None:
    with pytest.raises(ArgumentError, match=r"a picture needs matplotlib: pip install 'loopmorph\[plot\]'"):
        roofline(with_layers(layer("conv1", 50.0)))


def test_direct_code_leaves_winograd_out() -> None:
    model = nn.Sequential(nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, padding=1)).eval()
    x = torch.randn(1, 16, 16, 16)
    program = import_model(model, (x,))
    direct = compile(with_algorithm(program, "direct"))
    assert "winograd" in compile(program).schedule
    assert "winograd" not in direct.schedule
    with torch.no_grad():
        torch.testing.assert_close(direct(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="'algorithm': expected one of auto, direct, got 'fft'"):
        with_algorithm(program, "fft")
