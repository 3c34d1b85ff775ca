"""`optimize` with a trained network: repaired, judged on images held out, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import image
from patterns import save_patterns
from torch import nn
from trained_networks import pattern_batch, trained_residual

import loopmorph as lm
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.tools.cli import main

SETTINGS = SearchSettings(legality="repair", max_loss=3.0, repair_images=96, held_out=64)

pytestmark = pytest.mark.usefixtures("own_cache", "page_without_times")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained_residual()


@pytest.fixture(scope="module")
def result(model: nn.Module) -> lm.Result:
    return lm.optimize(model, (image(),), pattern_batch(200), candidates=5, seed=1, settings=SETTINGS)


def test_the_result_is_repaired_and_its_predicted_loss_within_the_limit(result: lm.Result) -> None:
    report = result.report
    assert (report.legality, report.legality_reason, report.inherit) == ("repair", "it was asked for", "repair")
    assert any(step.kind == "neural" for step in result.program.history)
    repair = report.repair
    assert report.legal is True and repair.max_loss == 3.0
    assert repair.predicted_loss_low <= repair.predicted_loss <= repair.predicted_loss_high <= 3.0
    assert report.repair_optimized == repair.predicted_loss_high >= report.repair_original
    original, best = report.points
    assert (original.kind, original.ms, original.loss) == ("original", report.baseline_ms, 0.0)
    assert (best.kind, best.ms, best.high) == ("result", report.optimized_ms, repair.predicted_loss_high)
    assert repair.calibration_fits is False and repair.calibration.startswith("resnet34 on CIFAR-10")
    assert report.fisher_original is None and report.rejected_fisher == 0
    counted = [verdict.outcome for verdict in report.details]
    assert counted.count("repair") == report.rejected_repair
    changed = {layer.name: layer for layer in report.layers if any("morph-" in step for step in layer.transforms)}
    assert any(layer.residual is not None and 0 <= layer.residual < 1 for layer in changed.values())


def test_what_is_reported_is_true_of_the_very_result(result: lm.Result, model: nn.Module) -> None:
    held_out = pattern_batch(200)
    images, labels = held_out.images[96:160], held_out.labels[96:160]
    with torch.no_grad():
        before, after = (each(images).double().log_softmax(1) for each in (model, result.model.eval()))
    each = (before.exp() * (before - after)).sum(1)
    repair = result.report.repair
    assert repair.kl == pytest.approx(float(each.mean()), rel=1e-4, abs=1e-8)
    assert repair.kl_standard_error == pytest.approx(float(each.std()) / 8, rel=1e-4, abs=1e-8)
    assert repair.agreement == float((before.argmax(1) == after.argmax(1)).double().mean())
    assert repair.accuracy_original == 100 * float((before.argmax(1) == labels).double().mean())
    assert repair.accuracy_repaired == 100 * float((after.argmax(1) == labels).double().mean())
    assert repair.held_out.endswith("64 of them")


def test_the_schedule_is_replayed(result: lm.Result, model: nn.Module) -> None:
    again = lm.replay(model, (image(),), result.schedule)
    assert str(again.program) == str(result.program) and again.report.legality == ""


def test_the_command_line_says_what_will_be_lost(
    in_unit: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "patterns.npz", tmp_path / "out"
    save_patterns(data, 240, seed=2)
    arguments = ["optimize", "factories:trained", "--data", str(data), "--candidates", "2"]
    assert main([*arguments, "--max-loss", "2.5", "--held-out", "70", "--out", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "legality by repair: the network is trained, and there are images to repair it with" in told
    assert "held-out images: npz patterns.npz, 70 of 240 images" in told
    assert "predicted loss after fine-tuning: " in told and " at 90%: legal" in told
    assert "borrowed from another network: calibrate for your own" in told
    report = json.loads((out / "report.json").read_text())
    assert report["legality"] == "repair" and report["max_loss"] == 2.5 and report["predicted_loss_high"] <= 2.5
    names = {"kl", "kl_standard_error", "agreement", "accuracy_original", "accuracy_repaired", "calibration_fits"}
    assert all(report[name] is not None for name in names)
    assert all("residual" in layer for layer in report["layers"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-loss", "-1"], "'max_loss': expected a positive number of points, got -1.0"),
        (["--legality", "fisher", "--calibration", "x.json"], "'calibration': legality 'fisher' takes none"),
        (["--legality", "repair", "--inherit", "slice"], "'inherit': expected 'repair' or none, got 'slice'"),
        (["--legality", "repair"], "'data': none was given (--data PATH)"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    in_unit: None, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["optimize", "factories:residual", "--candidates", "1", *arguments]) != 0
    told = capfd.readouterr().err
    assert message in " ".join(told.split()) and "Traceback" not in told
