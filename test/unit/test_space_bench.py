"""`loopmorph legality-bench space`: rewrites of a trained network, ranked by what is known of them before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from patterns import save_patterns
from trained_networks import trained_residual

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.bench.signal_rows import SignalRow
from loopmorph.pipelines.bench.space import SpaceBench
from loopmorph.pipelines.legality.proxy import Score
from loopmorph.tools.cli import main

# The original (left out), and rewrites from the gentlest to the harshest, with accuracies made up in that order.
SPECIFICATIONS = [
    (90.0, [["full", "full", 1], ["full", "full", 1]]),
    (89.0, [["g2", "full", 1], ["full", "full", 1]]),
    (80.0, [["dw", "sp2", 1], ["dw", "dw", 4]]),
    (70.0, [["dw", "dw", 4], ["dw", "dw", 8]]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("space")
    save_patterns(place / "p.npz", 200, seed=3)
    lines = [json.dumps({"idx": k, "spec": spec, "acc": acc}) for k, (acc, spec) in enumerate(SPECIFICATIONS)]
    (place / "rows.jsonl").write_text("\n".join(lines))
    torch.save(trained_residual().state_dict(), place / "weights.pt")
    return place


def command(folder: Path, *more: str) -> list[str]:
    given = [
        "--rows",
        str(folder / "rows.jsonl"),
        "--data",
        str(folder / "p.npz"),
        "--weights",
        str(folder / "weights.pt"),
    ]
    return ["legality-bench", "space", "factories:trained", *given, "--images", "64", "--held-out", "64", *more]


def test_the_rewrites_are_ranked_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out.jsonl"
    assert main(command(folder, "--signals", "kl,macs", "--out", str(out), "--count", "1")) == 0
    first = out.read_text().splitlines()
    assert main(command(folder, "--signals", "kl,macs", "--out", str(out))) == 0
    lines = out.read_text().splitlines()
    assert lines[: len(first)] == first and len(lines) == len(SPECIFICATIONS) - 1
    printed = capsys.readouterr().out
    assert "Rewrites of factories:trained; npz p.npz" in printed
    (row,) = [line.split() for line in printed.splitlines() if line.strip().startswith("kl ")][-1:]
    assert float(row[1]) >= 0.5  # the harsher, the further away


def test_smaller_is_better_where_it_is(folder: Path) -> None:
    bench = SpaceBench(
        folder / "rows.jsonl", trained_residual(), torch.zeros(1, 3, 8, 8), folder / "p.npz", images=64, held_out=64
    )
    assert [network.name for network in bench.networks] == ["1", "2", "3"]
    row = SignalRow("1", 89.0, {"kl": Score(0.25, 0.01), "macs": Score(100.0)})
    (ranked,) = bench.ranked([row])
    assert ranked.scores["kl"] == Score(-0.25, 0.01) and ranked.scores["macs"] == Score(100.0)


def test_weights_that_do_not_fit_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "other.pt")
    assert main(command(folder, "--weights", str(folder / "other.pt"))) == 1
    assert "other.pt: does not fit the model: 'block1." in capsys.readouterr().err


def test_a_file_without_rewrites_is_refused(folder: Path) -> None:
    (folder / "none.jsonl").write_text(json.dumps({"idx": 0, "spec": SPECIFICATIONS[0][1], "acc": 90}))
    with pytest.raises(DataError, match=r"none.jsonl: holds no rewrite"):
        SpaceBench(folder / "none.jsonl", trained_residual(), torch.zeros(1, 3, 8, 8), folder / "p.npz")
