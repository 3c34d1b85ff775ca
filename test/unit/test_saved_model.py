"""`model.pt`: what it names is only built where that is harmless, or where the caller names it, too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from bombs import write_bomb
from torch import nn

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.program import import_model
from loopmorph.pipelines.search.saved_model import load_model, save_model

SCHEDULE = "morph-bottleneck{layer=0 iter=co factor=2}"


def original() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).eval(), (torch.randn(1, 3, 8, 8),)


def saved(path: Path, **changes: Any) -> Path:
    model, inputs = original()
    module = import_model(model, inputs).apply(SCHEDULE).to_module()
    buffer = io.BytesIO()
    save_model(buffer, module, model="user_saved:net", original=model, schedule=SCHEDULE)
    buffer.seek(0)
    torch.save({**torch.load(buffer, weights_only=True), **changes}, path)
    return path


def test_a_factory_runs_only_where_the_caller_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_saved.py").write_text(
        "import pathlib\nfrom test_saved_model import original\n"
        "pathlib.Path('ran').touch()\n\ndef net():\n    return original()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = saved(tmp_path / "model.pt")
    with pytest.raises(ArgumentError, match=r"'original': .*made from 'user_saved:net', .*original='user_saved:net'\)"):
        load_model(path)
    assert not (tmp_path / "ran").exists()
    expected = load_model(path, original=original())
    assert not (tmp_path / "ran").exists()
    found = load_model(path, original="user_saved:net")
    assert (tmp_path / "ran").exists()
    (x,) = original()[1]
    torch.testing.assert_close(found.eval()(x), expected.eval()(x))
    assert found.state_dict()["0.weight"].shape == (4, 3, 3, 3)


@pytest.mark.parametrize("named", ["os:abort", "os:getcwd", "/tmp/evil.pt2", "sys:exit"])
def test_no_file_chooses_what_is_run(tmp_path: Path, named: str) -> None:
    with pytest.raises(ArgumentError, match=f"was made from '{named}', which is code of its own; name it if you trust"):
        load_model(saved(tmp_path / "model.pt", model=named))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", state_dict={"other": torch.zeros(1)})
    with pytest.raises(DataError, match="its weights do not fit the rebuilt network"):
        load_model(path, original=original())


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = write_bomb(tmp_path / "model.pt", "model/data/0")
    with pytest.raises(DataError, match=r"model\.pt: refused: it unpacks to 3\.0 GiB; at most 2\.0 GiB are read"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.pt: not a readable model file"):
        load_model(tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"none\.pt: no such file"):
        load_model(tmp_path / "none.pt")
