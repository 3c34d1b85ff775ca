"""`optimize` for a speed-up: from the table of a trained network to results that were judged, timed and written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import image
from patterns import patterns
from torch import nn
from trained_networks import pattern_batch, trained_residual

import loopmorph as lm
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.tools.cli import main

UNIT = Path(__file__).resolve().parents[1] / "unit"
SETTINGS = SearchSettings(seconds=1e-3, variants=3, repair_images=96, held_out=64, max_loss=3.0)


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for this file: what is measured for one test serves the next."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOPMORPH_CACHE", str(tmp_path_factory.getbasetemp() / "joint"))
        yield


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained_residual()


@pytest.fixture(scope="module")
def result(model: nn.Module) -> lm.Result:
    settings = replace(SETTINGS, target_speedup=1.1)
    return lm.optimize(model, (image(),), pattern_batch(200), seed=1, settings=settings)


def test_the_result_keeps_the_speed_up_and_is_no_worse_than_the_baselines(result: lm.Result) -> None:
    report = result.report
    joint = report.joint
    assert report.legality == "repair" and report.legality_reason.startswith("a choice over all layers")
    assert joint is not None and joint.reached and joint.additive_gap == 0
    assert joint.chosen.transforms == tuple(map(str, _plain(result)))
    assert joint.limit_ms == pytest.approx(joint.original_ms / 1.1)
    assert joint.chosen.milliseconds is not None and joint.chosen.milliseconds <= joint.limit_ms
    assert report.speedup == pytest.approx(joint.original_ms / joint.chosen.milliseconds)  # the pair that was kept
    assert report.repair.kl == pytest.approx(joint.chosen.kl, rel=1e-3)
    assert {"greedy", "random 1"} < set(joint.baselines)
    for each in joint.baselines.values():
        assert each.kl is not None and each.milliseconds is not None and each.whole
        assert each.kl >= (joint.chosen.kl or 0) or each.milliseconds > joint.limit_ms


def _plain(result: lm.Result) -> list[object]:
    """The steps without what repair says of the channels that are kept."""
    from loopmorph.pipelines.oracle.inherit import plain_steps

    return list(plain_steps(result.program.history))


def test_a_second_run_gives_the_same_and_judges_nothing(
    result: lm.Result, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopmorph.pipelines.search.remote_judge import RemoteJudge

    def never(*_: object, **__: object) -> object:
        raise AssertionError("it was judged before")

    monkeypatch.setattr(RemoteJudge, "compare", never)
    settings = replace(SETTINGS, target_speedup=1.1)
    again = lm.optimize(model, (image(),), pattern_batch(200), seed=1, settings=settings)
    assert again.schedule == result.schedule
    assert again.report.joint is not None and result.report.joint is not None
    assert again.report.joint.trials == result.report.joint.trials


def test_what_is_out_of_reach_is_refused_with_what_is_in_reach(result: lm.Result, model: nn.Module) -> None:
    fast = replace(SETTINGS, target_speedup=1000.0)
    with pytest.raises(lm.ArgumentError, match=r"'target_speedup': 1000 is out of reach: the most .* reach is \d"):
        lm.optimize(model, (image(),), pattern_batch(200), seed=1, settings=fast)
    small = replace(SETTINGS, target_speedup=1.1, max_parameters=1)
    with pytest.raises(lm.ArgumentError, match=r"'max_parameters': 1 is out of reach: the least .* reach is \d"):
        lm.optimize(model, (image(),), pattern_batch(200), seed=1, settings=small)


def test_several_speed_ups_go_to_folders_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(UNIT))
    monkeypatch.chdir(UNIT)
    data, out = tmp_path / "patterns.npz", tmp_path / "out"
    found = patterns(240, 2)
    np.savez(data, images=found.images.permute(0, 2, 3, 1).numpy(), labels=found.labels.numpy())
    arguments = ["optimize", "factories:trained", "--data", str(data), "--variants", "2", "--seconds", "0.001"]
    arguments += ["--held-out", "70", "--repair-images", "96", "--out", str(out)]
    assert main([*arguments, "--target-speedup", "1.02", "--target-speedup", "1.05"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name in ("1.02", "1.05"):
        assert f"speed-up {name}: limit" in told
        report = json.loads((out / f"{name}x" / "report.json").read_text())
        assert report["joint"]["target_speedup"] == float(name) and report["joint"]["chosen"]["kl"] is not None
        assert (out / f"{name}x" / "model.pt").exists()
    assert "joint choice (" in told and "greedy" in told and "optimum proved" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-speedup", "1"], "'target_speedup': expected a finite number above 1, got 1.0"),
        (["--target-speedup", "nan"], "'target_speedup': expected a finite number above 1, got nan"),
        (["--target-speedup", "2", "--target-speedup", "2"], "'target_speedup': 2 is given twice"),
        (["--target-speedup", "2", "--target-ms", "3"], "'target_ms': expected no speed-up beside it"),
        (["--target-ms", "0"], "'target_ms': expected a positive number of milliseconds, got 0.0"),
        (["--seconds", "0"], "'seconds': expected a positive number of seconds, got 0.0"),
        (
            ["--max-parameters", "5"],
            "'max_parameters': it limits a joint choice: expected a target",
        ),
        (
            ["--target-ms", "1", "--legality", "fisher"],
            "'legality': a joint choice is judged by 'repair', got",
        ),
        (["--target-ms", "1"], "'data': none was given (--data PATH)"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(UNIT))
    monkeypatch.chdir(UNIT)
    assert main(["optimize", "factories:residual", *arguments]) != 0
    told = capfd.readouterr().err
    assert message in " ".join(told.split()) and "Traceback" not in told
