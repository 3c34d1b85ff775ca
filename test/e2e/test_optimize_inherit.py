"""`loopmorph optimize --inherit`: the choice is reported, saved and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import Residual, image, randomized

import loopmorph as lm
from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.oracle.inherit import CHOICES
from loopmorph.pipelines.search.settings import SearchSettings
from loopmorph.tools.cli import main

pytestmark = pytest.mark.usefixtures("own_cache", "in_unit")


def test_the_search_inherits_what_is_nearest_and_says_so() -> None:
    torch.manual_seed(0)
    model = randomized(Residual())
    images, labels = image(batch=8, seed=1), torch.randint(10, (8,), generator=torch.Generator().manual_seed(1))
    result = lm.optimize(model, (image(),), Batch(images, labels, 10, "random"), candidates=6)
    report = result.report
    assert list(report.inherited_errors) == list(CHOICES)
    assert report.inherited_error == pytest.approx(min(report.inherited_errors.values()), rel=1e-4, abs=1e-6)
    assert report.inherited_errors[report.inherit] == min(report.inherited_errors.values())
    assert str(lm.replay(model, (image(),), result.schedule).program) == str(result.program)


def test_the_command_line_reports_and_saves_the_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["optimize", "factories:residual", "--candidates", "3", "--batch-size", "8", "--inherit", "mean"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "weights inherited by mean; tried: mean " in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["inherit"] == "mean" and list(report["inherited_errors"]) == ["mean"]
    model = lm.load_model(tmp_path / "model.pt", original="factories:residual").eval()
    assert model(image()).shape == (1, 10)


def test_another_word_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "factories:residual", "--inherit", "median"]) == 2
    assert "'median' is not one of 'slice', 'mean', 'salient', 'least-squares', 'least-error'" in capfd.readouterr().err
    message = "'inherit': expected slice, mean, salient, least-squares, least-error or repair, got 'median'"
    with pytest.raises(lm.ArgumentError, match=message):
        lm.optimize(Residual(), (image(),), settings=SearchSettings(inherit="median"))
