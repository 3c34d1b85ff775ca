"""`loopmorph compile`: what it says of a network, and of the file of one that was rewritten and trained since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import loopmorph as lm
from loopmorph.tools.cli import main

ROWS = ("--calls", "3")


def test_a_saved_network_is_compiled_with_its_schedule_and_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import factories

    torch.manual_seed(0)
    original = factories.residual().eval()
    step = "morph-bottleneck{layer=block1.conv1 iter=co factor=2}"
    module = lm.import_model(original, (torch.randn(1, 3, 8, 8),)).apply(step).to_module()
    with torch.no_grad():
        module.linear.bias.add_(1.0)  # as training would have it
    saved, told = tmp_path / "tuned.pt", tmp_path / "told.json"
    lm.save_model(saved, module, model="factories:residual", original=original, schedule=step)

    assert main(["compile", str(saved), "--trust", *ROWS, "--json", str(told), "-o", str(tmp_path / "c")]) == 0
    output = capsys.readouterr().out
    assert "factories:residual with other weights, rewritten in" in output
    assert "after 1 transformation" in output
    content = json.loads(told.read_text())
    assert content["relative_error"] < 1e-4
    assert content["parameters"] == sum(each.numel() for each in module.parameters())
    assert (tmp_path / "c" / "tuned.h").is_file()


def test_weights_of_another_network_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    assert main(["compile", "resnet8_digits", "--weights", str(tmp_path / "w.pt")]) == 1
    assert "does not fit the model: 'bn1.bias' is missing" in capsys.readouterr().err
