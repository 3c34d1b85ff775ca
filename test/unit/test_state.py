"""Weights from files: whole or in pieces, with one line for each way in which they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.ingress.state import load_state
from loopmorph.pipelines.support import archives


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_pieces_in_half_precision_become_the_models_own(tmp_path: Path) -> None:
    source, target = model(), model()
    half = {name: t.half() if t.is_floating_point() else t for name, t in source.state_dict().items()}
    names = list(half)
    for number, part in enumerate((names[:2], names[2:])):
        torch.save({name: half[name] for name in part}, tmp_path / f"net.{number}.pt")
    load_state(target, tmp_path)
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == source.state_dict()[name].dtype
        torch.testing.assert_close(tensor, source.state_dict()[name], rtol=1e-3, atol=1e-3)


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code in the file ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as weights"),
        (b"no archive", "cannot be read as weights"),
        ([1, 2], "holds something else than a state dictionary"),
        ({"0.weight": 3}, "holds something else than a state dictionary"),
        ({}, "does not fit the model: '0.bias' is missing"),
        ({**model().state_dict(), "2.weight": torch.zeros(1)}, "it has '2.weight', which the model has not"),
        (
            {**model().state_dict(), "0.bias": torch.zeros(5)},
            r"'0.bias' has shape \(5,\), the model's \(4,\)",
        ),
        (Runs(), "cannot be read as weights"),
    ],
    ids=["no file", "no archive", "a list", "a number", "missing", "unknown", "shape", "code"],
)
def test_what_does_not_fit_is_refused(
    content: object, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, target = tmp_path / "weights.pt", model()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(DataError, match=message):
        load_state(target, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    assert "ran" not in capsys.readouterr().out


def test_weights_that_unpack_to_too_much_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(model().state_dict(), tmp_path / "weights.pt")
    monkeypatch.setattr(archives.check_unpacked, "__defaults__", (100,))
    with pytest.raises(DataError, match=r"weights.pt: refused: it unpacks to .*; at most .* are read"):
        load_state(model(), tmp_path / "weights.pt")


def test_a_folder_without_pieces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.pt file"):
        load_state(model(), tmp_path)
