"""Tensors without elements, as inputs, on the way and as outputs: what PyTorch computes, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import Of, require_agreement
from torch import fx, nn
from torch.nn import functional

import loopmorph as lm
from loopmorph.pipelines.ingress.empty_tensors import refuse_empty_operands

pytestmark = pytest.mark.filterwarnings("ignore:.*degrees of freedom.*", "ignore:Initializing zero-element")
X = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))


def net() -> nn.Module:
    head = [nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *head)


# fmt: off
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "network": (net, (0, 4, 8, 8)),
    "conv1d": (lambda: nn.Conv1d(4, 8, 3), (0, 4, 8)),
    "grouped": (lambda: nn.Conv2d(4, 4, 3, groups=4), (0, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2), (0, 4, 4, 4)),
    "transposed-to-nothing": (lambda: nn.ConvTranspose2d(4, 6, 5, 1, 4), (1, 4, 4, 5)),
    "linear-of-nothing": (lambda: nn.Linear(0, 4), (2, 0)),
    "linear-to-nothing": (lambda: nn.Linear(4, 0), (2, 4)),
    "shuffle": (lambda: nn.PixelShuffle(2), (1, 4, 0, 3)),
    "unfold": (lambda: nn.Unfold(2), (0, 4, 3, 3)),
    "group-norm": (lambda: nn.GroupNorm(2, 4), (0, 4, 3)),
    "layer-norm": (lambda: nn.LayerNorm(4), (3, 0, 4)),
    "softmax": (lambda: nn.Softmax(1), (2, 0)),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d((0, 2)), (1, 4, 4, 4)),
    "bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (0, 4, 3, 3)),
    "attention": (lambda: Of(lambda m, x: m(x, x, x)[0], nn.MultiheadAttention(4, 2, batch_first=True)), (0, 5, 4)),
    "flatten": (nn.Flatten, (2, 0, 3)),
    "identity": (nn.Identity, (0, 4)),
}
FUNCTIONS: dict[str, Callable[[torch.Tensor], object]] = {
    "slice": lambda x: x[:, 2:2] * 2,
    "sum": lambda x: x[:, 2:2].sum(1),
    "mean": lambda x: x[:, :0].mean(),
    "product": lambda x: x[:, :0].prod(1) + x[:, 0],
    "deviation": lambda x: x[:, :0].std(1),
    "all": lambda x: (x[:, :0] > 0).all(1),
    "norm": lambda x: x[:, :0].norm(dim=1),
    "joined": lambda x: torch.cat([x[:, 2:2], x, x[:, :0], x], 1) + 1,
    "joined-one": lambda x: torch.cat([x[:, 2:2], x], 1),
    "joined-none": lambda x: torch.cat([x[:, 2:2], x[:, :0]], 1),
    "padded": lambda x: functional.pad(x[:, :, :0], (1, 2), value=3.0),
    "cropped": lambda x: functional.pad(x, (-2, -1)),
    "product-of-none": lambda x: x[:, :, :0] @ x[:, :0, :1],
    "einsum": lambda x: torch.einsum("nij,nkj->nik", x[:, :0], x),
    "views": lambda x: x[:0].reshape(3, 0, 2).permute(1, 0, 2).expand(4, 0, 3, 2),
    "split": lambda x: torch.split(x, [0, 4], 1),
    "sorted": lambda x: x[:0].sort(1)[0],
    "written": lambda x: torch.slice_scatter(x, x[:, :0], 1, 0, 0) * 2,
    "chosen": lambda x: x[:, torch.zeros(0, dtype=torch.int64)],
    "added": lambda x: x.sum() + x[:0],
    "integers": lambda x: (x[:, :0].argmax(2), x.argmax(2)),
}
# fmt: on


@pytest.mark.parametrize("name", LAYERS)
def test_layers_without_elements(name: str) -> None:
    make, shape = LAYERS[name]
    require_agreement(make(), torch.randn(shape), module=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_nothing(name: str) -> None:
    require_agreement(Of(FUNCTIONS[name]), X)


def test_a_branch_of_nothing_adds_zero() -> None:
    branch = Of(lambda a, b, x: a(x) + b(a(x)[:0]).sum(), nn.Conv1d(4, 8, 1), nn.Conv1d(8, 8, 3))
    require_agreement(branch, X, module=True)


def test_what_pytorch_exports_wrongly_is_refused() -> None:
    with pytest.raises(lm.ImportRefused, match=r"pixel_unshuffle.* computes shape .* and exports shape"):
        lm.import_model(nn.PixelUnshuffle(2), (torch.randn(1, 4, 0, 4),))


def test_what_else_reads_nothing_is_refused_by_name() -> None:
    graph = fx.Graph()
    operand = graph.placeholder("x")
    operand.meta["val"] = torch.empty(0, 3)
    node = graph.call_function(torch.ops.aten.cumsum.default, (operand, 0))
    node.meta["val"] = torch.empty(0, 3)
    with pytest.raises(lm.ImportRefused, match=r"operator 'cumsum': an operand of shape \(0, 3\)"):
        refuse_empty_operands(graph)
