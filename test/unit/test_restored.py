"""Exported programs as modules again."""

from __future__ import annotations

import copy
from pathlib import Path

import cloudpickle
import pytest
import torch
from networks import Residual, image, randomized
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.ingress.restored import describe_restored, restore
from loopmorph.pipelines.legality.fisher import fisher_potential


class Mixed(nn.Module):
    """Layers of several ranks, a list, names that are no identifiers, functions with a mode, nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 4, 3, padding="same", dilation=2, groups=1)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, (1, 3), (1, 2)), nn.Dropout(0.5)) for _ in range(2)])
        self.add_module("a-b", nn.ConvTranspose2d(4, 4, 2))
        self.line, self.plain = nn.Conv1d(4, 4, 1, bias=False), nn.BatchNorm1d(4, affine=False)
        self.own = nn.Parameter(torch.randn(4, 4, 1, 1))
        self.constant = torch.arange(4.0).reshape(4, 1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        x = self.same(x)
        for block in self.blocks:
            x = block(x)
        x = functional.dropout(self.get_submodule("a-b")(x), 0.5, self.training)
        with torch.no_grad():
            y = functional.conv2d(x, self.own) + self.constant
        return {"y": y, "rest": [self.plain(self.line(x.flatten(2))), y.mean((2, 3))]}


def restored(model: nn.Module, x: torch.Tensor) -> nn.Module:
    found = restore(torch.export.export(model.eval(), (x,)))
    assert found is not None
    expected = model(x)
    for twin in (found, copy.deepcopy(found), cloudpickle.loads(cloudpickle.dumps(found))):
        result = twin(x)
        assert [type(each) for each in tree_leaves(result)] == [type(each) for each in tree_leaves(expected)]
        torch.testing.assert_close(result, expected)
    return found


def test_a_network_is_its_layers_again() -> None:
    torch.manual_seed(0)
    model = randomized(Residual()).eval()
    found = restored(model, image())
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            assert str(found.get_submodule(name)) == str(layer)
    assert found.state_dict().keys() == model.state_dict().keys()
    assert not any(module.training for module in found.modules())
    assert describe_restored(found) == "an exported graph, 13 layers restored as modules"


def test_the_score_is_that_of_the_network() -> None:
    model = Residual()
    images, labels = torch.randn(4, 3, 8, 8), torch.arange(4)
    found = fisher_potential(restored(model, image()), images, labels)
    expected = fisher_potential(model.train(), images, labels)
    assert found.mean == pytest.approx(expected.mean) and list(found.probes) == list(expected.probes)


def test_what_is_no_layer_stays_an_operator() -> None:
    found = restored(Mixed(), torch.randn(2, 3, 8, 8))
    assert str(found.same) == str(Mixed().same)
    for name in ("blocks.0.0", "blocks.1.1"):
        assert str(found.get_submodule(name)) == str(Mixed().get_submodule(name))
    assert str(found.line) == str(Mixed().line) and not found.plain.affine
    assert describe_restored(found).endswith("; aten.dropout.default in the mode of the export")
    found.train()
    assert found.get_submodule("blocks.1.1").training


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.conv(x).relu())


class TwiceInTwoWays(Twice):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(functional.pad(self.conv(x), (0, 1))).mean((2, 3))


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], x.shape[1], x.shape[2] * x.shape[3])


class TwoShapes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat = Flat()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.flat(x).sum(2) + self.flat(x[:, :, 1:]).sum(2)


def test_layers_that_run_twice_are_restored_where_they_do_the_same() -> None:
    restored(Twice(), image())
    restored(TwiceInTwoWays(), image())
    assert restore(torch.export.export(TwoShapes().eval(), (image(),))) is None


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("zeros", torch.zeros(4))
        self.register_buffer("ones", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(self.conv(x), self.zeros, self.ones, training=self.training).mean((2, 3))


def test_batch_norm_that_is_a_function_keeps_its_mode() -> None:
    with pytest.raises(ArgumentError, match="'model': the graph of an exported program has no train mode"):
        fisher_potential(restored(Functional(), image()), torch.randn(4, 3, 8, 8), torch.arange(4))


def test_resolved_files_say_what_was_restored(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Residual().eval(), (image(),)), path)
    loaded = resolve_model(str(path))
    assert loaded.note == "an exported graph, 13 layers restored as modules" and loaded.classes == 10
    torch.export.save(torch.export.export(TwoShapes().eval(), (image(),)), path)
    assert resolve_model(str(path)).note == "an exported graph, in the mode of the export"
