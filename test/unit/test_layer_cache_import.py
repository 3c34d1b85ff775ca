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


class Mobile(nn.Module):
    """What networks for small devices add: other activations, in place and not, and parts of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.act, self.head = nn.BatchNorm2d(8), nn.Hardswish(inplace=True), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = F.silu(F.silu(self.norm(self.stem(x))), inplace=True)
        gate = F.hardsigmoid(y.mean((2, 3), keepdim=True))
        z = F.hardtanh(y * gate, 0.0, 6.0)
        a, b = torch.split(F.leaky_relu(z, 0.1), 4, 1)
        z = F.leaky_relu_(torch.cat([self.left(a), self.right(b)], 1), 0.2)
        z = F.hardtanh_(F.hardsigmoid(F.hardswish(z), inplace=True) + z, -1.0, 1.0)
        mean = self.act(F.adaptive_avg_pool2d(z[:, :, 1:], 1))
        return self.head(torch.flatten(mean, 1)), F.interpolate(y, scale_factor=(2.0, 4.0)) + 1.0


class PartsOfWhatIsOverwritten(nn.Module):
    """A trace makes these views where they are used, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = F.relu_(x * 2)
        a, b = torch.split(y, 4, 1)
        z = torch.cat([self.right(b), self.left(a)], 1)
        mean = F.hardswish(F.adaptive_avg_pool2d(z, 1), inplace=True)
        return self.head(torch.flatten(mean, 1)), y[:, 1:7][:, :, 2:5] * 2, a + b


class OverwritesAView(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        F.relu_(torch.flatten(y, 1))
        return y


class Unusual(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(x).softmax(-1)


class HalfAsPrecise(nn.Module):
    """PyTorch's rule computes it in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x.to(torch.bfloat16)).to(torch.float32)


class AveragesWithoutTheEdge(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class PoolsBeyondTheEdge(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)


class ReturnsAView(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(x * 2)[:, 1:]


class ResizesByTheWay(nn.Module):
    """A factor whose places are rounded."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=3.0)


def shown(graph: fx.Graph) -> list[str]:
    """A line for each node; names are numbered anew, since what has been dropped leaves gaps."""
    lines, bases = [], Counter[str]()
    for node in graph.nodes:
        base = re.sub(r"_\d+$", "", node.name)
        node.name, bases[base] = f"{base}_{bases[base]}", bases[base] + 1
    for node in graph.nodes:
        values = node.meta.get("val")
        tensors = [v for v in (values if isinstance(values, (list, tuple)) else (values,)) if v is not None]
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


@pytest.mark.parametrize(
    ("kind", "channels"),
    [(Usual, 3), (Mobile, 3), (PartsOfWhatIsOverwritten, 8)],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_usual_layers_become_what_tracing_gives(
    kind: type[nn.Module], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten, traced = both(kind(), (1, channels, 16, 16), monkeypatch)
    assert rewritten is not None and shown(rewritten) == shown(traced)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_i", "resnext29_2x64d", "vgg11", "mobilenet"])
def test_networks_of_the_zoo_become_what_tracing_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ZOO[name]
    rewritten, traced = both(entry.factory(), (1, *entry.input_shape), monkeypatch)
    assert rewritten is not None and shown(rewritten) == shown(traced)


@pytest.mark.parametrize(
    "kind",
    [
        OverwritesAView,
        Unusual,
        HalfAsPrecise,
        PoolsBeyondTheEdge,
        AveragesWithoutTheEdge,
        ReturnsAView,
        ResizesByTheWay,
    ],
)
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
