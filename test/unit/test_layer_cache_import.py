"""The exported graph in core operations: what tracing it a second time gives, or nothing."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import loopmorph as lm
from loopmorph.pipelines.ingress import importer
from loopmorph.pipelines.ingress.core_graph import core_graph
from loopmorph.pipelines.ingress.place import module_path
from loopmorph.pipelines.zoo import ZOO


class Usual(nn.Module):
    """Every layer that is known, in place and not, with and without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.plain = nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)
        self.down = nn.Conv2d(8, 8, 3, 2, 1, groups=2, bias=False)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.head, self.other = nn.Linear(16, 5), nn.Linear(16, 3, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.relu6(self.relu(self.norm(self.stem(x))))
        z = self.plain(self.down(y))
        z += F.max_pool2d(y, 3, 2, 1)
        F.relu_(z)
        z = torch.cat([z, F.avg_pool2d(z, 3, 1, 1)], 1)
        z = self.drop((torch.sigmoid(z) * z + 1.0) * 2)
        mean = torch.flatten(F.adaptive_avg_pool2d(z, 1), 1)
        return self.head(mean), self.relu(self.other(self.drop(mean)))


class OverwritesAView(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        F.relu_(torch.flatten(y, 1))
        return y


class Unusual(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(x).softmax(-1)


def shown(graph: fx.Graph) -> list[str]:
    """A line for each node; names are numbered anew, since what has been dropped leaves gaps."""
    lines, bases = [], Counter[str]()
    for node in graph.nodes:
        base = re.sub(r"_\d+$", "", node.name)
        node.name, bases[base] = f"{base}_{bases[base]}", bases[base] + 1
    for node in graph.nodes:
        values = node.meta.get("val")
        tensors = [v for v in (values if isinstance(values, tuple) else (values,)) if v is not None]
        shapes = [(v.shape, v.dtype, v.stride()) for v in tensors]
        place = module_path(node) if node.op == "call_function" else ""
        lines.append(f"{node.op} {node.name} {node.target} {node.args} {node.kwargs} {shapes} {place}")
    return lines


def both(model: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[fx.Graph | None, fx.Graph]:
    """The graph that is rewritten, and the one that is traced."""
    exported = importer._export(model.eval(), (torch.zeros(shape),), {})
    with monkeypatch.context() as patch:
        patch.setattr(importer, "core_graph", lambda _: None)
        _, traced = importer._decompose(exported)
    return core_graph(exported), traced


def test_usual_layers_become_what_tracing_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten, traced = both(Usual(), (1, 3, 16, 16), monkeypatch)
    assert rewritten is not None and shown(rewritten) == shown(traced)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_i", "resnext29_2x64d", "vgg11", "mobilenet"])
def test_networks_of_the_zoo_become_what_tracing_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ZOO[name]
    rewritten, traced = both(entry.factory(), (1, *entry.input_shape), monkeypatch)
    assert rewritten is not None and shown(rewritten) == shown(traced)


@pytest.mark.parametrize("kind", [OverwritesAView, Unusual])
def test_what_is_not_sure_is_traced(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = kind(), torch.randn(1, 2, 4, 4)
    rewritten, _ = both(model, (1, 2, 4, 4), monkeypatch)
    assert rewritten is None
    torch.testing.assert_close(lm.compile(model, (x,))(x), model(x))


@pytest.mark.parametrize("wrap", [lambda y: (y,), lambda y: [y], lambda y: y])
def test_an_output_in_a_tuple_stays_in_a_tuple(wrap: object) -> None:
    class Wrapped(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return wrap(x * 2)  # type: ignore[operator]

    x = torch.randn(2, 3)
    found, expected = lm.compile(Wrapped(), (x,))(x), Wrapped()(x)
    assert type(found) is type(expected)
