"""`loopmorph operators`: which layers and operators it compares, what it counts, and what it says of refused ones."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.bench.operator_list import operators, parse_operators
from loopmorph.pipelines.bench.operators import compare_operators
from loopmorph.pipelines.bench.operators_plot import speedups
from loopmorph.pipelines.bench.operators_result import LayerOperators, OperatorRow, OperatorsResult
from loopmorph.pipelines.bench.paper_figures import FIG6, FIG6_LAYERS, beside_fig6
from loopmorph.pipelines.measure.check import check_layer
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.schedules import schedules
from loopmorph.tools.cli import main

NETWORK = """
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, padding=1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7),
    )

network.input_shape = (3, 8, 8)
"""
RESIDUAL = """
from torch import nn

class Network(nn.Module):
    input_shape = (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.branch(x)).mean((2, 3)))
"""
MODEL = "operators_net:network"
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
needs_matplotlib = pytest.mark.skipif(not HAS_MATPLOTLIB, reason="matplotlib is not installed")


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    data: dict[str, Any]
    folder: Path

    def layer(self, name: str) -> dict[str, Any]:
        return next(layer for layer in self.data["layers"] if layer["name"] == name)

    def row(self, layer: str, operator: str) -> dict[str, Any]:
        return next(row for row in self.layer(layer)["rows"] if row["operator"] == operator)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("operators")
    (path / "operators_net.py").write_text(NETWORK)
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """One real run of the command."""
    arguments = ["operators", MODEL, "--schedules", "depthwise,seq1", "--layers", "4,6", "--json", "out.json"]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "120")
        patch.setenv("LOOPMORPH_CACHE", str(folder))
        code = main([*arguments, "--plot", "out.png"] if HAS_MATPLOTLIB else arguments)
    return Run(code, out.getvalue(), json.loads((folder / "out.json").read_text()), folder)


def test_layers_with_the_same_loops_are_looked_at_once(run: Run) -> None:
    assert run.code == 0
    assert [(layer["name"], layer["same"]) for layer in run.data["layers"]] == [("4", ["4", "2"]), ("6", ["6"])]
    assert (run.layer("6")["stride"], run.layer("6")["macs"]) == ([2, 2], 16 * 32 * 9 * 16)


def test_work_and_parameters_are_the_layers_own(run: Run) -> None:
    depthwise, sliced = run.row("4", "depthwise"), run.row("4", "seq1")
    assert (depthwise["mac_ratio"], depthwise["parameter_ratio"]) == (16, (16 * 16 * 9 + 16) / (16 * 9 + 16))
    assert sliced["mac_ratio"] == pytest.approx(8 / 3)
    assert sliced["steps"][0] == "morph-partition{layer=4 iter=co parts=2}"


def test_what_is_legal_is_timed(run: Run) -> None:
    rows = [row for layer in run.data["layers"] for row in layer["rows"] if row["outcome"] == "timed"]
    assert len(rows) == 3
    for row in rows:
        assert row["speedup"] == pytest.approx(row["ms_before"] / row["ms_after"])
        assert row["gflops_before"] > 0 and row["gflops_after"] > 0
        assert set(row["algorithm"].split(" + ")) <= {"direct", "winograd2", "winograd4"}


def test_what_is_refused_is_listed_with_the_reason(run: Run) -> None:
    row = run.row("6", "depthwise")
    reason = "layer '6': depthwise needs as many output as input channels: 'co' has 32, 'ci' 16"
    assert (row["outcome"], row["reason"], row["ms_after"]) == ("refused", reason, None)
    assert f"depthwise: refused: {reason}" in run.out
    assert "6: 16 -> 32, 3x3 / 2, 4x4" in run.out


@needs_matplotlib
def test_the_picture_is_written(run: Run) -> None:
    assert (run.folder / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "written: out.json out.png" in run.out


def test_direct_code_is_compared_with_direct_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOOPMORPH_CACHE", str(folder))
    result = compare_operators(MODEL, parse_operators("group-2"), layers=["2"], algorithm="direct")
    (layer,) = result.layers
    assert [layer.algorithm, *(row.algorithm for row in layer.rows)] == ["direct", "direct"]
    assert layer.rows[0].outcome == "timed"


def test_an_interrupt_keeps_what_was_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOOPMORPH_CACHE", str(folder))

    def interrupt(what: str, done: int, of: int) -> None:
        if done == 1 and of > 1:
            raise KeyboardInterrupt

    result = compare_operators(MODEL, parse_operators("depthwise,seq1"), layers=["6", "2"], progress=interrupt)
    assert result.interrupted
    assert [[row.operator for row in layer.rows] for layer in result.layers] == [["depthwise"]]


def test_a_part_of_a_flattened_map_is_checked() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    program = lm.import_model(network, (torch.randn(1, 3, 6, 6),)).apply("morph-bottleneck{layer=3 iter=ci factor=2}")
    with Worker() as worker:
        assert check_layer(program, "3", worker) < 1e-5


def test_an_operator_that_takes_the_layer_out_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    (folder / "operators_residual.py").write_text(RESIDUAL)
    operators = parse_operators("drop-block,depthwise")
    (layer,) = compare_operators("operators_residual:Network", operators, layers=["branch.0"]).layers
    gone = layer.row("drop-block")
    assert gone is not None
    assert (gone.outcome, gone.reason) == ("refused", "'branch.0' is gone: nothing is left to be timed")
    assert len(layer.rows) == 2


def test_every_shipped_schedule_is_compared() -> None:
    assert {"group-2", "group-4", "group-8", "depthwise", "bottleneck-2", *schedules()} == set(operators())


def test_operators_are_parsed() -> None:
    found = parse_operators("seq2{u=8  g=4}, group-2,seq2, group-2")
    assert [operator.name for operator in found] == ["seq2{u=8 g=4}", "group-2", "seq2"]
    assert "begin = 8 : i64" in found[0].text("conv1")
    assert found[1].text("conv1") == "morph-group{layer=conv1 iters=co,ci factor=2}"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"argument 'schedules': expected NAME or NAME\{PARAMETER=VALUE ...\} at ''"),
        ("seq2{u=8", r"expected NAME or NAME\{PARAMETER=VALUE ...\} at 'seq2\{u=8'"),
        ("seq9", "no operator 'seq9'; there are group-2, .*; did you mean 'seq"),
        ("group-2{factor=3}", "'group-2' is no schedule, so it has no parameters"),
        ("seq2{u}", r"expected PARAMETER=VALUE in 'seq2\{u\}', got 'u'"),
        ("seq2{v=1}", "argument 'v': unknown parameter of schedule 'seq2'"),
    ],
)
def test_wrong_lists_are_explained(text: str, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        parse_operators(text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"layers": ["conv"]},
            "argument 'layers': no contraction layer 'conv' in the program; there are 0, 2, 4, 6, 9$",
        ),
        ({"algorithm": "winograd"}, "argument 'algorithm': expected one of auto, direct, got 'winograd'"),
        ({"threads": 0}, "argument 'threads': expected"),
    ],
)
def test_wrong_arguments_are_explained(
    options: dict[str, Any], match: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ArgumentError, match=match):
        compare_operators(MODEL, parse_operators("depthwise"), **options)


def layer(speedup: float | None) -> LayerOperators:
    """A layer of ResNet-34 with one operator."""
    outcome = "refused" if speedup is None else "timed"
    row = OperatorRow("group-2", outcome, mac_ratio=2.0, speedup=speedup, algorithm="direct")
    extents = {"n": 1, "co": 64, "oh": 32, "ow": 32, "ci": 64, "kh": 3, "kw": 3}
    same = ("layer1.0.conv1", "layer1.0.conv2")
    return LayerOperators(same[0], same, extents, (1, 1), 10, 10, "winograd4", (row,))


def test_the_paper_stands_beside_resnet34_alone() -> None:
    rows = beside_fig6("resnet34", (layer(1.5),))
    assert [(row.index, row.layer, row.ours["group-2"]) for row in rows] == [
        (0, "layer1.0.conv1", 1.5),
        (1, "layer1.0.conv2", 1.5),
        (2, None, None),
    ]
    assert rows[1].paper == {"group-2": 2.12, "seq1": 2.1, "seq2": 2.46, "seq3": 6.81}
    assert beside_fig6("resnet18", (layer(1.5),)) == ()
    assert FIG6.keys() == FIG6_LAYERS.keys()


@needs_matplotlib
def test_the_paper_is_drawn_beside_ours() -> None:
    layers = (layer(1.5),)
    plain = OperatorsResult("resnet34", "a CPU", 1, "auto", layers)
    both = OperatorsResult("resnet34", "a CPU", 1, "auto", layers, beside_fig6("resnet34", layers))
    pictures = [speedups(result) for result in (plain, both)]
    heights = [int.from_bytes(picture[20:24], "big") for picture in pictures]
    assert heights[1] == 2 * heights[0]


@needs_matplotlib
def test_nothing_timed_is_nothing_to_draw() -> None:
    with pytest.raises(ArgumentError, match="argument 'plot': no operator on 'resnet34' was timed"):
        speedups(OperatorsResult("resnet34", "a CPU", 1, "auto", (layer(None),)))
