"""`loopmorph bench --suite`: its networks, what is kept and measured, what the tables say, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from suite_rows import MS, Recorded, contender, measured, row, suite, without_ours

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.bench import suite as suite_module
from loopmorph.pipelines.bench.process_memory import watched_memory
from loopmorph.pipelines.bench.result import LayerRow, Missing, SlowRow
from loopmorph.pipelines.bench.suite import CHANGED, STOPPED, bench_suite, choose_networks
from loopmorph.pipelines.bench.suite_result import SuiteResult, read_suite, summaries
from loopmorph.pipelines.bench.timm_networks import CNN, NETWORKS, empty_torchvision
from loopmorph.tools.cli import main
from loopmorph.tools.suite_output import print_suite, row_line

SMALL = ["resnet18", "vit_tiny_patch16_224"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)


# --- which networks ---


def test_forty_networks_of_three_kinds() -> None:
    assert Counter(NETWORKS.values()) == {"cnn": 30, "mixer": 4, "transformer": 6}


def test_networks_are_chosen_by_name_pattern_and_kind() -> None:
    assert choose_networks([]) == list(NETWORKS)
    assert choose_networks(["resnet50", "resnet*", "resnet18"]) == ["resnet18", "resnet34", "resnet50"]
    assert choose_networks([CNN]) == [name for name, kind in NETWORKS.items() if kind == CNN]
    with pytest.raises(
        ArgumentError, match="'networks': 'resnet51' names no network of the suite; did you mean 'resnet5"
    ):
        choose_networks(["resnet18", "resnet51"])


@pytest.mark.parametrize(("wrong", "nearest"), [("resnet5", "resnet50"), ("vit_tiny_patch16", "vit_tiny_patch16_224")])
def test_a_wrong_name_is_told_all_names_the_nearest_first(wrong: str, nearest: str) -> None:
    with pytest.raises(ArgumentError, match=f"'{wrong}' names no network of the suite") as caught:
        choose_networks([wrong])
    listed, kinds = caught.value.message.split("nearest first, ")[1].split("; and the kinds ")
    names = listed.split(", ")
    assert names[0] == nearest and sorted(names) == sorted(NETWORKS)
    assert kinds == "cnn, mixer, transformer"


# --- measuring ---


def test_each_network_batch_and_number_of_threads_is_a_row() -> None:
    perform, told, watched = Recorded(), [], []
    result = bench_suite(
        networks=SMALL,
        batches=[1, 8],
        threads=[1, 2],
        perform=perform,
        progress=lambda *step: told.append(step),
        watch=watched.append,
    )
    cases = [(name, batch, threads) for name in SMALL for batch in (1, 8) for threads in (1, 2)]
    assert perform.asked == [(row.network, row.batch, row.threads) for row in result.rows] == cases
    assert tuple(watched) == result.rows and not result.stopped
    assert [row.kind for row in result.rows] == ["cnn"] * 4 + ["transformer"] * 4
    assert told[1] == ("resnet18, batch 1, 2 threads: building", 1, 8)


def test_what_was_measured_is_not_measured_again() -> None:
    first, second = Recorded(stops_after=3), Recorded()
    stopped = bench_suite(networks=SMALL, batches=[1, 8], perform=first)
    assert stopped.stopped == STOPPED and len(stopped.rows) == len(first.asked) == 3
    whole = bench_suite(networks=SMALL, batches=[1, 8], perform=second)
    assert not whole.stopped and whole.rows[:3] == stopped.rows
    assert len(second.asked) == 5 and not set(first.asked) & set(second.asked)


def test_an_interrupt_keeps_later_rows_that_are_known() -> None:
    bench_suite(networks=SMALL[1:], batches=[1], threads=[1], perform=Recorded())
    stopped = bench_suite(networks=SMALL, batches=[1], threads=[1], perform=Recorded(stops_after=0))
    assert stopped.stopped == STOPPED and [row.network for row in stopped.rows] == SMALL[1:]


def test_fresh_measures_again_and_keeps_that() -> None:
    settings = {"networks": ["resnet18"], "batches": [1], "threads": [1]}
    bench_suite(**settings, perform=Recorded(lambda _: 1.5))
    assert bench_suite(**settings, perform=Recorded(lambda _: 3.0)).rows[0].ratio == 1.5
    bench_suite(**settings, fresh=True, perform=Recorded(lambda _: 3.0))
    assert bench_suite(**settings, perform=Recorded()).rows[0].ratio == 3.0
    assert not bench_suite(**settings, fresh=True, perform=Recorded(stops_after=0)).rows
    assert bench_suite(**settings, perform=Recorded(lambda _: 4.0)).rows[0].ratio == 4.0


@pytest.mark.parametrize("other", ["sources", "this_processor", "versions"])
def test_rows_hold_for_sources_processor_and_versions(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"networks": ["resnet18"], "batches": [1], "threads": [1]}
    bench_suite(**settings, perform=Recorded())
    for name in ["sources", "sources_now"] if other == "sources" else [other]:
        monkeypatch.setattr(suite_module, name, lambda *_: {"torch": "3"} if other == "versions" else "another")
    again = Recorded()
    bench_suite(**settings, perform=again)
    assert len(again.asked) == 1


def test_measuring_ends_where_the_sources_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a row reads them when it starts: whether before or after the change is not known."""
    now = iter([suite_module.sources(), "younger"])
    monkeypatch.setattr(suite_module, "sources_now", lambda: next(now))
    perform = Recorded()
    result = bench_suite(networks=SMALL, batches=[1, 8], threads=[1], perform=perform)
    assert (result.stopped, len(result.rows), len(perform.asked)) == (CHANGED, 1, 2)


@pytest.mark.parametrize("change", [{"rounds": 3}, {"seed": 1}, {"peers": ["eager"]}, {"algorithm": "direct"}])
def test_rows_hold_for_what_was_asked(change: dict[str, object]) -> None:
    settings = {"networks": ["resnet18"], "batches": [1], "threads": [1]}
    bench_suite(**settings, perform=Recorded())
    again = Recorded()
    bench_suite(**{**settings, **change}, perform=again)
    assert len(again.asked) == 1


def test_a_network_that_fails_costs_itself_alone() -> None:
    result = bench_suite(networks=SMALL, batches=[1], threads=[1], perform=Recorded(fails="resnet18"))
    assert [row.outcome for row in result.rows] == ["failed", "timed"]
    assert result.rows[0].reason == "the benchmark's process was killed by SIGSEGV"


def test_a_cache_that_somebody_has_written_into_is_measured_anew() -> None:
    settings = {"networks": ["resnet18"], "batches": [1], "threads": [1]}
    bench_suite(**settings, perform=Recorded())
    file = suite_module.SuiteFile()
    file.execute("UPDATE rows SET content = '{\"network\": 3}'")
    file.close()
    again = Recorded()
    assert bench_suite(**settings, perform=again).rows[0].ratio == 2.0
    assert len(again.asked) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"suite": "tim"}, "'suite': expected one of timm, got 'tim'"),
        ({"batches": []}, "'batches': expected at least one"),
        ({"batches": [0]}, "'batches': expected positive whole numbers, got 0"),
        ({"threads": [True]}, "'threads': expected positive whole numbers, got True"),
        ({"peers": []}, "'peers': expected at least one"),
        ({"peers": ["tvm"]}, "'peers': 'tvm' is not known; accepted are eager"),
        ({"limit": 0.0}, "'limit': expected more than 0 and at most 1e\\+06 seconds, got 0"),
        ({"limit": float("nan")}, "'limit': expected more than 0 and at most 1e\\+06 seconds, got nan"),
        ({"threads": [1000000]}, "'threads': "),
        ({"algorithm": "fft"}, "'algorithm': expected one of auto, direct, got 'fft'"),
    ],
)
def test_refused_arguments(settings: dict[str, object], message: str) -> None:
    perform = Recorded()
    with pytest.raises(ArgumentError, match=message):
        bench_suite(**{"networks": ["resnet18"], "perform": perform, **settings})
    assert not perform.asked


# --- what rows say ---


def test_outcomes_and_reasons() -> None:
    refused = Missing("loopmorph", "conv1: an operation that is not supported", "refused")
    crashed = Missing("loopmorph", "its process was killed by SIGSEGV")
    alone = dataclasses.replace(measured(2.0), fastest_peer=None, rows=(contender("loopmorph", 5.0),))
    rows = {
        "timed": row("resnet18", 2.0),
        "refused": row("resnet18", without_ours(refused)),
        "failed": row("resnet18", without_ours(crashed)),
        "wrong": row("resnet18", measured(2.0, error=0.5)),
        "no peer": row("resnet18", alone),
    }
    assert {name: each.outcome for name, each in rows.items()} == {name: name for name in rows}
    assert {name: each.ratio for name, each in rows.items()} == {name: None for name in rows} | {"timed": 2.0}
    assert rows["refused"].reason == refused.reason and rows["failed"].reason == crashed.reason
    assert rows["wrong"].reason == "outputs differ from eager's by 5.0e-01 of the largest value"
    assert row("resnet18", measured(2.0, error=float("nan"))).outcome == "wrong"
    assert rows["timed"].reason == ""


def test_summaries_are_of_what_was_timed() -> None:
    refused = without_ours(Missing("loopmorph", "why", "refused"))
    rows = [row("resnet18", 2.0), row("resnet34", 0.5), row("dla34", 8.0), row("dpn48b", refused)]
    rows += [row("resnet18", refused, batch=8), row("resnet34", None, batch=8, failure="it crashed")]
    one, eight = summaries(rows)
    assert (one.batch, one.threads, one.mean, one.slow) == (1, 1, pytest.approx(2.0), 1)
    assert one.worst is rows[1]
    assert one.outcomes == {"timed": 3, "refused": 1} and one.fastest == {"openvino": 3}
    assert (eight.batch, eight.mean, eight.worst) == (8, None, None)
    assert eight.outcomes == {"refused": 1, "failed": 1}


def test_the_slowest_layers_are_those_that_take_most_in_all() -> None:
    layers = (
        LayerRow("a", {}, 10, 0, ms=1.0, share_of_peak=0.5),
        LayerRow("b", {}, 10, 0, ms=0.6, share_of_peak=0.2),
        LayerRow("c", {}, 10, 0, ms=0.6, share_of_peak=0.2, same_as="b"),
        LayerRow("d", {}, 0, 0, ms=0.9),
        LayerRow("e", {}, 0, 0, note="it is computed in the nests of other layers"),
    )
    slow = row("resnet18", measured(0.5, layers=layers))
    assert [(each.first.name, each.count) for each in slow.slowest_layers(3)] == [("b", 2), ("a", 1), ("d", 1)]
    assert row("resnet18", 2.0).slowest_layers(3) == []


def test_a_result_survives_json(tmp_path: Path) -> None:
    layers = (LayerRow("a", {"n": 1}, 10, 4, ms=1.0),)
    rows = (row("resnet18", measured(0.5, layers=layers)), row("resnet34", None, failure="it crashed"))
    rows = (*rows, row("dla34", dataclasses.replace(measured(0.5), slow=SLOW_NESTS)))
    path = tmp_path / "suite.json"
    path.write_text(suite(*rows).to_json())
    assert read_suite(path) == suite(*rows)


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "no json", '{"model": "resnet18", "results": []}', "[" * 100_000, "\udcff"]
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"other.json: is not what `loopmorph bench --suite timm --json` has written"):
        read_suite(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing.json: cannot be read: No such file or directory"):
        read_suite(tmp_path / "nothing.json")


# --- what is printed ---

SLOW_NESTS = tuple(
    SlowRow(name, "main", {"n": 1, "w": None}, 9000, ("no vectors: no schedule fits the nest",), 4.0, 0.2)
    for name in ("a.norm", "b.norm")
)


def printed(result: SuiteResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    print_suite(result)
    return capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (LayerRow("features.conv", {}, 10, 0, ms=5.0, share_of_peak=0.125),)
    rows = [
        row("resnet18", 2.0),
        row("resnet18", 4.0, threads=2),
        row("dla34", measured(0.5, build=12.5, layers=layers)),
        row("dla34", without_ours(Missing("loopmorph", "no dilation", "refused")), threads=2),
        row("mixer_s16_224", 0.25),
    ]
    out = printed(suite(*rows), capsys, monkeypatch)
    assert "suite timm on a processor\ntorch 2.13, openvino 1\n" in out
    table = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert table["resnet18"] == ["resnet18", "2.00", "4.00", "40", "4.0", "4.0", "-", "500", "100", "100"]
    assert ["dla34", "0.50", "refused", "10", "12.5", "4.0", "-", "500", "100", "100"] in [
        line.split() for line in out.splitlines()
    ]
    worst = "geometric mean 1.00 of 2, 1 below 1, worst dla34 0.50; fastest peer openvino 2"
    assert f"batch 1, 1 thread: {worst}\n" in out
    assert "batch 1, 2 threads: geometric mean 4.00 of 1, 0 below 1, worst resnet18 4.00" in out
    assert "openvino 1; 1 refused" in out
    assert out.index("convolutional networks") < out.index("\nmixers")
    assert "(20.00 ms, openvino 10.00 ms)\n  features.conv: 1 x 5.000 ms, 25% of our time, 12.5% of peak\n" in out
    assert out.rstrip().endswith("dla34, batch 1, 2 threads: refused: no dilation")


def test_nests_that_could_run_faster(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = printed(suite(row("dla34", dataclasses.replace(measured(0.5), slow=SLOW_NESTS))), capsys, monkeypatch)
    _, told = out.split("nests that could run faster, by their layers' time:\n")
    assert told.splitlines()[1:] == [
        "  a.norm and 1 like it, main: n=1 w=?, 40.0% of our time",
        "    no vectors: no schedule fits the nest",
    ]


def test_a_stopped_run_says_how_it_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = dataclasses.replace(suite(row("resnet18", 2.0)), stopped=STOPPED)
    assert "stopped early: the same command, without --fresh, goes on from there\n" in printed(
        stopped, capsys, monkeypatch
    )
    assert "below 1, with the layers" not in printed(suite(row("resnet18", 2.0)), capsys, monkeypatch)


def test_peers_that_are_not_installed_are_named_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = (Missing("onnxruntime", "onnx not installed: pip install 'loopmorph[peers]'", "absent"),)
    rows = [row(name, dataclasses.replace(measured(2.0), missing=missing)) for name in ("resnet18", "dla34")]
    out = printed(suite(*rows), capsys, monkeypatch)
    assert out.count("onnxruntime: not run: onnx not installed: pip install 'loopmorph[peers]'\n") == 1


def test_one_row_in_one_line() -> None:
    assert (
        row_line(row("resnet18", 2.0, threads=2))
        == f"resnet18, batch 1, 2 threads: 2.00 (5.00 ms, openvino {MS:.2f} ms)"
    )
    assert row_line(row("dla34", None, failure="it crashed")) == "dla34, batch 1, 1 thread: failed: it crashed"


# --- the command ---


def test_without_timm_one_line_says_what_installs_it(no_timm: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--suite", "timm", "--networks", "resnet18"]) == 1
    told = "its networks are timm's, which is not installed: pip install 'loopmorph[peers]'"
    assert capsys.readouterr().err == f"error: argument 'suite': {told}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'MODEL', or a suite of networks, as in --suite timm."),
        (["resnet18", "--suite", "timm"], "MODEL is not for a suite."),
        (["--suite", "timm", "--layers"], "--layers is not for a suite."),
        (["--suite", "timm", "--plot", "x.png"], "--plot is not for a suite."),
        (["resnet18", "--batches", "1"], "--batches is for a suite, and --suite is missing."),
        (["resnet18", "--fresh"], "--fresh is for a suite, and --suite is missing."),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert f"Error: {message}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "tim"], "argument 'suite': expected one of timm, got 'tim'"),
        (
            ["--suite", "timm", "--batches", "one"],
            "argument 'batches': expected whole numbers separated by commas, got 'o",
        ),
        (["--suite", "timm", "--networks", "x*"], "argument 'networks': 'x*' names no network of the suite"),
        (
            ["--suite", "timm", "--json", "no/such.json"],
            "argument 'json': cannot write 'no/such.json': there is no folder",
        ),
    ],
)
def test_bad_values_are_one_line(arguments: list[str], message: str, refused: Callable[[Sequence[str]], str]) -> None:
    assert refused(["bench", *arguments]).startswith(f"error: {message}")


# --- what it stands on ---


@pytest.fixture
def without_torchvision() -> Iterator[None]:
    """As where nobody has imported it."""
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchvision"}
    yield
    sys.modules.update(own)


def test_an_empty_torchvision_goes_away_again(without_torchvision: None) -> None:
    with empty_torchvision():
        misc = importlib.import_module("torchvision.ops.misc")
        assert issubclass(misc.FrozenBatchNorm2d, torch.nn.Module)
        assert importlib.import_module("torchvision").ops.misc is misc
        with pytest.raises(ImportError):
            importlib.import_module("torchvision.models")
    assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")
def test_memory_that_is_given_back_counts_within_and_not_after() -> None:
    with watched_memory() as large:
        torch.ones(8 << 20)  # 32 MiB
    with watched_memory() as small:
        torch.ones(1 << 10)
    if large.added is not None:
        assert (31 << 20) <= large.added < large.peak and small.added < (16 << 20)


def test_the_setting_names_this_computer() -> None:
    result = bench_suite(networks=["resnet18"], batches=[1], threads=[1], peers=["eager"], perform=Recorded())
    assert result.setting.processor == suite_module.this_processor()
    assert set(result.setting.versions) == {"torch", "timm", "torch-mlir"}
