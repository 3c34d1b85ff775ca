"""MODEL: zoo names, factories, exported programs, and what is said when they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model

FACTORIES = """
import torch
from torch import nn


def shaped():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))

shaped.input_shape = (3, 8, 8)

def with_inputs():
    return nn.Conv2d(2, 4, 3), (torch.zeros(1, 2, 9, 9),)

def shapeless():
    return nn.ReLU()

def misshapen():
    return nn.ReLU()

misshapen.input_shape = (3, "8")

def mismatched():
    return nn.Conv2d(2, 4, 3)

mismatched.input_shape = (3, 8, 8)

def failing():
    raise OSError("no weights\\nhere")

def wrong():
    return 3

def wrong_inputs():
    return nn.ReLU(), "text"

number = 3
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "user_nets.py").write_text(FACTORIES)
    (tmp_path / "user_broken.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "user_raises.py").write_text("raise RuntimeError('at import')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_zoo_network() -> None:
    loaded = resolve_model("mobilenet")
    assert loaded.name == "mobilenet" and loaded.classes == 10
    assert loaded.example_inputs[0].shape == (1, 3, 32, 32)
    assert not any(module.training for module in loaded.model.modules())


def test_weights_are_a_function_of_the_seed() -> None:
    state = torch.get_rng_state()
    first, again, other = (resolve_model("user_nets:shaped", seed=seed).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert torch.equal(first["1.running_var"], torch.ones(4)) and torch.equal(first["1.running_mean"], torch.zeros(4))
    assert torch.equal(state, torch.get_rng_state())


def test_factories() -> None:
    shaped = resolve_model("user_nets:shaped")
    assert shaped.example_inputs[0].shape == (1, 3, 8, 8) and shaped.classes == 7 and not shaped.model.training
    given = resolve_model("user_nets:with_inputs")
    assert given.example_inputs[0].shape == (1, 2, 9, 9) and given.classes is None


def test_exported_program(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    inputs = (torch.randn(1, 3, 8, 8),)
    torch.export.save(torch.export.export(model, inputs), tmp_path / "net.pt2")
    loaded = resolve_model("net.pt2")
    torch.testing.assert_close(loaded.model(*loaded.example_inputs), model(*inputs))
    torch.testing.assert_close(loaded.example_inputs[0], inputs[0])
    assert loaded.classes == 4 and not loaded.model.training


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "resnet81",
            r"'resnet81' is not known; did you mean 'resnet18'\?; accepted are a zoo name, package.module:fact",
        ),
        ("", "'' is not known; accepted are"),
        ("user_nets:", "is not of the form package.module:factory"),
        (":shaped", "is not of the form package.module:factory"),
        ("user_nowhere:f", "there is no module 'user_nowhere' on the import path"),
        ("user_nets.sub:f", "there is no module 'user_nets.sub'"),
        ("user_broken:f", "importing 'user_broken' failed: ModuleNotFoundError: .*a_module_that_is_not_there"),
        ("user_raises:f", "importing 'user_raises' failed: RuntimeError: at import"),
        ("user_nets:shapd", "module 'user_nets' has no attribute 'shapd'; did you mean 'shaped'"),
        ("user_nets:number", "is a int, not a factory"),
        ("user_nets:failing", "the factory 'user_nets:failing' failed: OSError: no weights here$"),
        ("user_nets:wrong", r"returned a int; an nn.Module or \(nn.Module, example_inputs\) is expected"),
        ("user_nets:wrong_inputs", "the example inputs are not a tuple of tensors"),
        ("user_nets:shapeless", r"attribute input_shape = \(C, H, W\)"),
        ("user_nets:misshapen", "input_shape is .* of positive numbers is expected"),
        ("user_nets:mismatched", "does not accept its example inputs: RuntimeError"),
        ("nowhere.pt2", "nowhere.pt2: there is no such file"),
    ],
)
def test_models_that_cannot_be_used(text: str, reason: str) -> None:
    with pytest.raises(ArgumentError, match=f"^argument 'model': .*({reason})"):
        resolve_model(text)


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_broken_exported_program(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt2").write_bytes(content)
    with pytest.raises(ArgumentError, match=r"bad\.pt2: is truncated or was not written by torch\.export\.save"):
        resolve_model(str(tmp_path / "bad.pt2"))


def test_zip_that_is_no_exported_program(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "weights.pt2")
    with pytest.raises(
        ArgumentError, match=r"weights\.pt2: cannot be read as an exported program: .* no 'models/model.json'"
    ):
        resolve_model("weights.pt2")
