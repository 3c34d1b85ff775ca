"""The search from end to end: through the library, the command line, and back from what it wrote."""

from __future__ import annotations

import copy
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import Residual, image, randomized

import loopmorph as lm
from loopmorph.dialects.morph import schedule_text
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.oracle.inherit import CHOICES
from loopmorph.pipelines.search.optuna_study import read_studies
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.pipelines.search.study import NETWORK
from loopmorph.tools.cli import main

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "test" / "unit"
TUNED = ("original", "result")
WORDS = "'slice', 'mean', 'salient', 'least-squares', 'least-error'"  # the ways to inherit
CACHE = "timings"  # which test_optimize_doors.py shares
# The command in a process of its own, but for what the fixture `page_without_times` leaves out.
WITHOUT_TIMES = """
import sys
from loopmorph.pipelines.page import page
from loopmorph.tools.cli import main
page.measured_or_why = lambda *_: "left out in this test"
sys.exit(main())
"""

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def factory(in_unit: None) -> str:
    """A model that the command line finds by `module:factory`."""
    return "factories:residual"


def batch(count: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(10, (count,), generator=generator)
    return Batch(torch.randn(count, 3, 8, 8, generator=generator), labels, 10, "random")


def optimized(seed: int = 0, candidates: int = 6) -> lm.Result:
    torch.manual_seed(0)
    return lm.optimize(randomized(Residual()), (image(),), batch(), candidates=candidates, seed=seed)


@pytest.fixture(scope="module")
def result() -> lm.Result:
    return optimized()


def test_a_search_gives_a_legal_checked_network(result: lm.Result) -> None:
    report = result.report
    assert report.legal and report.fisher_optimized >= report.fisher_original
    assert report.candidates == 6 == len(report.details)
    assert report.max_abs_error < 1e-4
    expected = result.model.eval()(image())
    assert (result.executable(image()) - expected).abs().max() <= 1e-4 * expected.abs().max()
    counted = [d.outcome for d in report.details]
    assert counted.count("structure") == report.rejected_structure
    assert counted.count("fisher") == report.rejected_fisher
    assert report.macs_after <= report.macs_before
    images = batch().images
    torch.manual_seed(0)
    original = randomized(Residual()).eval()
    with torch.no_grad():
        difference = result.model.eval()(images) - original(images)
        assert report.inherited_error == pytest.approx(float(difference.norm() / original(images).norm()), rel=1e-4)
    assert all(layer.inherited_error is None or layer.inherited_error >= 0 for layer in report.layers)


def test_the_same_seed_gives_the_same_schedule_and_replay_the_same_ir(result: lm.Result) -> None:
    assert optimized().schedule == result.schedule
    torch.manual_seed(0)
    again = lm.replay(randomized(Residual()), (image(),), result.schedule)
    assert str(again.program) == str(result.program)
    assert again.schedule == result.schedule


def test_the_search_inherits_what_is_nearest_and_says_so(result: lm.Result) -> None:
    report = result.report
    assert list(report.inherited_errors) == list(CHOICES)
    assert report.inherited_error == pytest.approx(min(report.inherited_errors.values()), rel=1e-4, abs=1e-6)
    assert report.inherited_errors[report.inherit] == min(report.inherited_errors.values())


def test_the_optimised_network_trains(result: lm.Result) -> None:
    model = copy.deepcopy(result.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = batch()
    loss = torch.nn.functional.cross_entropy(model(data.images), data.labels)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)


def test_the_command_line_writes_files_that_load_back(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "data.npz"
    np.savez(data, images=rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8), labels=np.arange(32) % 10)
    out = tmp_path / "out"
    arguments = ["optimize", factory, "--data", str(data), "--candidates", "4", "--batch-size", "16", "--out", str(out)]
    arguments += ["--tune", "1", "--inherit", "mean"]
    study = tmp_path / "study.db"
    assert main([*arguments, "--jobs", "2", "--study", str(study)]) == 0
    files = ["model.pt", "optimized.mlir", "report.html", "report.json", "schedule.mlir"]
    assert sorted(p.name for p in out.iterdir()) == files
    report = json.loads((out / "report.json").read_text())
    assert report["data"].endswith("16 of 32 images")
    assert report["candidates"] == 4
    assert {"model", "speedup", "layers", "legal", "max_abs_error"} <= report.keys()
    assert report["tuning"]["seconds"] == 1 and min(report["tuning"][name]["tuned_ms"] for name in TUNED) > 0
    assert "dense_resource" not in (out / "optimized.mlir").read_text()
    assert report["inherit"] == "mean" and list(report["inherited_errors"]) == ["mean"]
    told = capsys.readouterr().out
    assert "Fisher Potential" in told and "weights inherited by mean; tried: mean " in told
    assert "Data flow of the result" in (out / "report.html").read_text()
    model = lm.load_model(out / "model.pt", original=factory).eval()
    x = image()
    assert model(x).shape == (1, 10)
    compiled = lm.compile(model, (x,))(x)
    assert (compiled - model(x)).abs().max() <= 1e-4 * compiled.abs().max()
    _check_study(study, report, capsys)
    assert main([*arguments, "--study", str(study), "--seed", "1"]) == 1
    assert "is of another search, differing in " in capsys.readouterr().err


def _check_study(study: Path, report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Its candidates are those of the report, and what it takes for the best is the network of the report."""
    (found,) = read_studies(study)
    *candidates, network = found.records
    verdicts = [{**asdict(each.verdict), "transforms": [*each.steps]} for each in candidates]
    assert sorted(verdicts, key=str) == sorted(report["details"], key=str)
    assert (network.kind, network.accepted) == (NETWORK, True)
    assert network.numbers["ms_after"] == report["optimized_ms"]
    assert main(["study", "best", str(study)]) == 0
    assert capsys.readouterr().out.strip() == schedule_text(network.steps).strip()


@pytest.mark.parametrize(
    ("sent", "again"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["interrupted", "interrupted again", "terminated in the background"],
)
def test_an_interrupt_ends_the_search_with_what_was_found(tmp_path: Path, sent: signal.Signals, again: bool) -> None:
    """The stages after the search are ended by further ones, and the files are written all the same.

    A job in the background ignores interrupts, and no terminations.
    """
    out = tmp_path / "out"
    command = [sys.executable, "-c", WITHOUT_TIMES, "optimize", "factories:residual", "--candidates", "100000"]
    cache = tmp_path / "cache"
    path = os.pathsep.join([str(ROOT), str(UNIT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "LOOPMORPH_CACHE": str(cache)}
    process = subprocess.Popen(
        [*command, "--batch-size", "8", "--out", str(out)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL if sent == signal.SIGINT else signal.SIG_IGN),
    )
    deadline = time.monotonic() + 120
    while not _timed_something(cache / "timings.sqlite3") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(sent)
    while again and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.7)
        if (out / "report.json").exists():
            break
        process.send_signal(sent)
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "stopped early" in output
    report = json.loads((out / "report.json").read_text())
    assert report["interrupted"] and report["candidates"] < 100000
    assert (report["speedup"] is None) is again
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(UNIT))
        assert lm.load_model(out / "model.pt", original="factories:residual").eval()(image()).isfinite().all()
    assert lm.replay(Residual(), (image(),), (out / "schedule.mlir").read_text()).program.steps is not None


def _timed_something(cache: Path) -> bool:
    """Whether a search that keeps its times there has got as far as timing a candidate."""
    if not cache.exists():
        return False
    try:
        with closing(sqlite3.connect(cache)) as connection:
            return connection.execute("SELECT COUNT(*) FROM pairs").fetchone()[0] > 0
    except sqlite3.OperationalError:  # not written yet
        return False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["optimize", "resnet17"], 1, "error: argument 'model': 'resnet17' is not known; did you mean 'resnet18'?"),
        (["optimize", "resnet18", "--candidates", "0"], 2, "0 is not in the range x>=1"),
        (["optimize", "resnet18", "--candidates", "-3"], 2, "-3 is not in the range x>=1"),
        (["optimize", "factories:residual", "--data", "/nowhere"], 1, "error: /nowhere: "),
        (["optimize", "resnet18", "--out", "/proc/nowhere"], 1, "error: argument 'out': cannot write to"),
        (["import", "factories:residual", "-o", "/proc/nowhere.mlir"], 1, "error: argument 'output': cannot write"),
        (["import", "resnet18", "--stage", "llvm"], 2, "'llvm' is not one of 'linalg', 'affine'"),
        (["import", "factories:no_such"], 1, "no_such"),
        (["import", "factories:refuses_export"], 1, "error: torch.export refuses the model ("),
        (["import", "foreign.pt2"], 1, "error: argument 'model': foreign.pt2: cannot be read as an exported program:"),
        (["import", "garbage.pt2"], 1, "error: argument 'model': garbage.pt2: is truncated"),
        (["optimize", "resnet18", "--out", "garbage.pt2"], 1, "error: argument 'out': cannot write to 'garbage.pt2'"),
        (["optimize", "resnet18", "--inherit", "median"], 2, f"'median' is not one of {WORDS}"),
        (["improve", "resnet18"], 2, "No such command 'improve'"),
    ],
)
def test_bad_input_gives_one_line(
    factory: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("garbage.pt2").write_text("garbage")
    with zipfile.ZipFile("foreign.pt2", "w") as archive:
        archive.writestr("a", "b")
    assert main(arguments) == code
    lines = capfd.readouterr().err.splitlines()
    assert message in lines[-1]
    assert len(lines) == 1 or (code == 2 and lines[0].startswith("Usage: "))


def test_another_way_to_inherit_is_refused() -> None:
    message = "'inherit': expected slice, mean, salient, least-squares, least-error or repair, got 'median'"
    with pytest.raises(lm.ArgumentError, match=message):
        lm.optimize(Residual(), (image(),), settings=SearchSettings(inherit="median"))


def test_import_prints_readable_ir_without_weights(factory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", factory]) == 0
    text = capsys.readouterr().out
    assert 'morph.param = "block1.conv1.weight"' in text
    assert 'morph.iter = "kw"' in text
    assert "dense<" not in text and "dense_resource" not in text
    assert main(["import", factory, "--stage", "linalg"]) == 0
    assert "linalg.conv_2d_nchw_fchw" in capsys.readouterr().out
