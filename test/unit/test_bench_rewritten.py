"""`loopmorph bench --rewritten`: rewrites in turns with the network that they were made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loopmorph.tools.cli import main

HALF = {"2x joint": "morph-bottleneck{layer=block1.conv1 iter=co factor=2}"}


def bench(tmp_path: Path, *options: str) -> int:
    (tmp_path / "pipelines.json").write_text(json.dumps(HALF))
    return main(["bench", "factories:residual", "--rewritten", str(tmp_path / "pipelines.json"), *options])


def test_each_network_is_compared_and_timed(tmp_path: Path) -> None:
    assert bench(tmp_path, "--peers", "eager", "--rounds", "1", "--json", str(tmp_path / "out.json")) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["name"], row["engine"]) for row in rows] == [
        ("original", "loopmorph"),
        ("2x joint", "loopmorph"),
        ("original", "eager"),
    ]
    original, half, eager = rows
    assert half["macs"] < original["macs"] == eager["macs"] and half["parameters"] < original["parameters"]
    assert original["speedup"] == 1 and all(row["median_ms"] > 0 and row["relative_error"] < 1e-4 for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--explain-slow"], "--explain-slow is not for --rewritten"),
        (["--algorithm", "direct"], "--algorithm is not for --rewritten"),
        (["--threads", "1,2"], "with --rewritten one number of threads is expected, got 2"),
        (["--only", "6x"], "has no network '6x'; there are '2x joint'"),
        (["--peers", "tvm"], "'tvm' is not known; accepted are eager"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert bench(tmp_path, *options) != 0
    assert message in capsys.readouterr().err
