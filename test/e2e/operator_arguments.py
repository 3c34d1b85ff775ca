"""Three argument sets each for the layers and functions that PyTorch's own test lists have none for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Layer = tuple[Callable[[], nn.Module], tuple[Any, ...]]  # what makes it, and the arguments of its forward

INTERNAL = {
    "nn": {
        "Module": "the base class",
        "Container": "an old name of Module",
        "RNNBase": "the base of LSTM, GRU and RNN",
        "RNNCellBase": "the base of the cells",
        "DataParallel": "for several devices",
        "SyncBatchNorm": "for several processes",
    },
    "functional": {
        "Optional": "a type",
        "assert_int_or_pair": "a helper",
        "boolean_dispatch": "a helper",
        "handle_torch_function": "a helper",
        "has_torch_function": "a helper",
        "has_torch_function_unary": "a helper",
        "has_torch_function_variadic": "a helper",
        "grouped_mm": "for bfloat16 alone",
        "scaled_mm": "for float8 alone",
        "scaled_grouped_mm": "for float8 alone",
    },
    "torch": {
        **dict.fromkeys(("arange", "broadcast_shapes", "eye", "full", "ones", "randint", "randn"), "takes no tensor"),
        **dict.fromkeys(("scalar_tensor", "tril_indices", "triu_indices", "zeros"), "takes no tensor"),
    },
}


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape) + len(shape)))


def integers(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(high))


def _each(factory: Callable[..., nn.Module], *options: tuple[dict[str, Any], tuple[int, ...]]) -> list[Layer]:
    """A layer of one input with the given options and input shapes."""
    return [(lambda o=o: factory(**o), (normal(*shape),)) for o, shape in options]


def _same(factory: Callable[..., nn.Module], *shapes: tuple[int, ...], **options: Any) -> list[Layer]:
    return _each(factory, *((options, shape) for shape in shapes))


class _Applied(nn.Module):
    """A container of modules or parameters, used by a function: it has no forward of its own."""

    def __init__(self, container: nn.Module, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.container, self.function = container, function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.container, x)


def _containers(make: Callable[[], nn.Module], function: Callable[..., torch.Tensor]) -> list[Layer]:
    return [(lambda: _Applied(make(), function), (normal(*shape),)) for shape in ((2, 4), (3, 2, 4), (4,))]


def _unpooled(dims: int) -> list[Layer]:
    """Max unpooling of what the pooling of the same dimensions found."""
    pool, unpool = getattr(functional, f"max_pool{dims}d"), getattr(nn, f"MaxUnpool{dims}d")
    found = []
    for kernel, stride, size in ((2, 2, 6), (3, 3, 9), (2, 2, 4)):
        values, indices = pool(normal(2, 3, *[size] * dims), kernel, stride, return_indices=True)
        found.append((lambda k=kernel, s=stride: unpool(k, s), (values, indices)))
    return found


def _batch_norms(dims: int) -> list[Layer]:
    shapes = [(2, 3, *[size] * dims) for size in (4, 3, 1)]
    return [(lambda s=s: _met(getattr(nn, f"LazyBatchNorm{dims}d")(), s), (normal(*s),)) for s in shapes]


def _met(layer: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """A lazy layer that has met its input."""
    layer(torch.ones(shape) + normal(*shape))
    return layer


def _instance_norms(dims: int) -> list[Layer]:
    shapes = [(2, 3, *[size] * dims) for size in (4, 3, 5)]
    return [(lambda s=s: _met(getattr(nn, f"LazyInstanceNorm{dims}d")(), s), (normal(*s),)) for s in shapes]


def _decoder(layers: int, width: int, batch_first: bool) -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(width, 2, 16, batch_first=batch_first), layers)


DROPOUTS = {
    name: _same(getattr(nn, name), (2, 3, *[4] * dims), (3, *[5] * dims), (1, 8, *[2] * dims), p=0.3)
    for name, dims in {
        **{"Dropout": 1, "Dropout1d": 1, "Dropout2d": 2, "Dropout3d": 3, "AlphaDropout": 1, "FeatureAlphaDropout": 2},
    }.items()
}

LAYERS: dict[str, list[Layer]] = {
    **DROPOUTS,
    **{f"MaxUnpool{d}d": _unpooled(d) for d in (1, 2, 3)},
    **{f"LazyBatchNorm{d}d": _batch_norms(d) for d in (1, 2, 3)},
    **{f"LazyInstanceNorm{d}d": _instance_norms(d) for d in (1, 2, 3)},
    "AdaptiveLogSoftmaxWithLoss": [
        (lambda c=c: nn.AdaptiveLogSoftmaxWithLoss(4, 10, c), (normal(n, 4), integers(10, n)))
        for c, n in (([3], 2), ([2, 5], 3), ([4, 8], 1))
    ],
    "ChannelShuffle": _each(
        nn.ChannelShuffle, ({"groups": 2}, (1, 4, 3, 3)), ({"groups": 3}, (2, 9, 5, 2)), ({"groups": 4}, (1, 8, 1, 7))
    ),
    "CosineSimilarity": [
        (lambda d=d: nn.CosineSimilarity(d), (normal(*s), normal(*s) + 1))
        for d, s in ((1, (3, 4)), (0, (5,)), (-1, (2, 3, 4)))
    ],
    "CrossMapLRN2d": _each(nn.CrossMapLRN2d, *(({"size": size}, (1, 6, 4, 4)) for size in (3, 5, 2))),
    "EmbeddingBag": [
        (lambda m=m: nn.EmbeddingBag(10, 4, mode=m), (integers(10, 3, 5),)) for m in ("sum", "mean", "max")
    ],
    "Flatten": _each(nn.Flatten, ({}, (2, 3, 4)), ({"start_dim": 2}, (2, 3, 4, 5)), ({"end_dim": 1}, (2, 3, 4, 2))),
    "Fold": _each(
        nn.Fold,
        ({"output_size": (4, 5), "kernel_size": (2, 3)}, (1, 12, 9)),
        ({"output_size": 6, "kernel_size": 2, "stride": 2}, (2, 8, 9)),
        ({"output_size": 5, "kernel_size": 3, "padding": 1, "stride": 2}, (1, 9, 9)),
    ),
    "Hardsigmoid": _same(nn.Hardsigmoid, (2, 3), (7,), (1, 3, 4, 4)),
    "Identity": _same(nn.Identity, (2, 3), (7,), (1, 3, 4, 4)),
    "LazyLinear": [(lambda s=s: _met(nn.LazyLinear(5), s), (normal(*s),)) for s in ((2, 3), (4,), (2, 3, 7))],
    "ModuleDict": _containers(
        lambda: nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.ReLU()}), lambda c, x: c["b"](c["a"](x))
    ),
    "ModuleList": _containers(lambda: nn.ModuleList([nn.Linear(4, 4), nn.Tanh()]), lambda c, x: c[1](c[0](x))),
    "ParameterDict": _containers(lambda: nn.ParameterDict({"w": normal(4)}), lambda c, x: x * c["w"]),
    "ParameterList": _containers(lambda: nn.ParameterList([normal(4), normal(1)]), lambda c, x: x * c[0] + c[1]),
    "Sequential": _containers(lambda: nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), lambda c, x: c(x)),
    "NLLLoss2d": [
        (nn.NLLLoss2d, (normal(n, 3, h, w).log_softmax(1), integers(3, n, h, w)))
        for n, h, w in ((1, 2, 3), (2, 4, 4), (2, 1, 5))
    ],
    "PairwiseDistance": [
        (lambda p=p: nn.PairwiseDistance(p), (normal(3, 5), normal(3, 5) + 1)) for p in (2.0, 1.0, 3.0)
    ],
    "PixelShuffle": _each(
        nn.PixelShuffle,
        *(({"upscale_factor": f}, s) for f, s in ((2, (1, 8, 3, 4)), (3, (2, 9, 2, 1)), (2, (1, 12, 5, 5)))),
    ),
    "PixelUnshuffle": _each(
        nn.PixelUnshuffle,
        *(({"downscale_factor": f}, s) for f, s in ((2, (1, 2, 6, 4)), (3, (2, 1, 6, 9)), (2, (1, 3, 2, 2)))),
    ),
    "RReLU": _same(nn.RReLU, (2, 3), (7,), (1, 3, 4, 4)),
    "TransformerDecoder": [
        (lambda a=(n, w, first): _decoder(*a), (normal(2, 3, w), normal(2, 3, w) + 1))
        for n, w, first in ((1, 8, True), (2, 4, True), (1, 8, False))
    ],
    "TripletMarginLoss": [
        (lambda o=o: nn.TripletMarginLoss(**o), (normal(3, 4), normal(3, 4) + 1, normal(3, 4) - 1))
        for o in ({}, {"margin": 2.0, "swap": True}, {"reduction": "none"})
    ],
    "TripletMarginWithDistanceLoss": [
        (lambda o=o: nn.TripletMarginWithDistanceLoss(**o), (normal(3, 4), normal(3, 4) + 1, normal(3, 4) - 1))
        for o in ({}, {"margin": 2.0, "swap": True}, {"reduction": "none"})
    ],
    "Unflatten": _each(
        nn.Unflatten,
        ({"dim": 1, "unflattened_size": (2, 3)}, (2, 6)),
        ({"dim": 0, "unflattened_size": (2, 2)}, (4, 5)),
        ({"dim": 1, "unflattened_size": (4, 1)}, (1, 4, 3)),
    ),
    "Unfold": _each(
        nn.Unfold,
        ({"kernel_size": (2, 3)}, (1, 2, 4, 5)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (2, 3, 7, 5)),
        ({"kernel_size": 2, "dilation": 2}, (1, 1, 6, 6)),
    ),
    "Upsample": _each(
        nn.Upsample,
        ({"scale_factor": 2.0}, (1, 2, 3, 5)),
        ({"size": (7, 4), "mode": "bilinear", "align_corners": True}, (2, 2, 3, 5)),
        ({"scale_factor": 1.7, "mode": "linear"}, (1, 3, 9)),
    ),
    "UpsamplingBilinear2d": _each(
        nn.UpsamplingBilinear2d,
        ({"scale_factor": 2}, (1, 2, 3, 5)),
        ({"size": (5, 9)}, (2, 1, 4, 4)),
        ({"size": 3}, (1, 2, 7, 7)),
    ),
    "UpsamplingNearest2d": _each(
        nn.UpsamplingNearest2d,
        ({"scale_factor": 2}, (1, 2, 3, 5)),
        ({"size": (5, 9)}, (2, 1, 4, 4)),
        ({"size": 3}, (1, 2, 7, 7)),
    ),
}


def _pool_indices(dims: int) -> list[Arguments]:
    return [
        ((normal(2, 3, *[6] * dims), 2), {}),
        ((normal(3, *[7] * dims), 3), {"stride": 2, "padding": 1}),
        ((normal(1, 2, *[5] * dims), 2), {"stride": 1, "dilation": 2}),
    ]


def _adaptive_indices(dims: int) -> list[Arguments]:
    return [((normal(2, 3, *[size] * dims), (out,) * dims), {}) for size, out in ((6, 3), (7, 3), (5, 1))]


def _fractional(dims: int) -> list[Arguments]:
    samples = [torch.rand(n, 2, dims, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 3)]
    return [
        ((normal(n, 2, *[7] * dims), 2), {"output_size": (3,) * dims, "_random_samples": s})
        for n, s in zip((1, 2, 3), samples, strict=True)
    ]


def _lp(dims: int) -> list[Arguments]:
    return [
        ((normal(2, 3, *[7] * dims), norm, kernel), {"stride": 2}) for norm, kernel in ((2.0, 2), (1.0, 3), (3.0, 2))
    ]


def _in_place(**options: Any) -> list[Arguments]:
    return [((normal(*shape),), options) for shape in ((2, 3), (7,), (1, 3, 4, 4))]


FUNCTIONS: dict[str, list[Arguments]] = {
    **{f"max_pool{d}d_with_indices": _pool_indices(d) for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d_with_indices": _adaptive_indices(d) for d in (1, 2, 3)},
    **{f"fractional_max_pool{d}d_with_indices": _fractional(d) for d in (2, 3)},
    **{f"lp_pool{d}d": _lp(d) for d in (1, 2, 3)},
    **{name: _in_place() for name in ("celu_", "elu_", "hardtanh_", "leaky_relu_", "relu_", "rrelu_", "selu_")},
    "threshold_": _in_place(threshold=0.1, value=-2.0),
    "affine_grid": [
        ((normal(2, 2, 3), (2, 3, 4, 5)), {"align_corners": False}),
        ((normal(1, 2, 3), (1, 1, 3, 3)), {"align_corners": True}),
        ((normal(1, 3, 4), (1, 2, 2, 3, 4)), {"align_corners": False}),
    ],
    "conv_tbc": [((normal(5, 2, 3), normal(k, 3, 4), normal(4)), {"pad": p}) for k, p in ((3, 0), (2, 1), (1, 0))],
    "dropout1d": [((normal(*s),), {"p": 0.4, "training": False}) for s in ((2, 3, 4), (3, 4), (1, 1, 7))],
    "fold": [
        ((normal(1, 12, 9), (4, 5), (2, 3)), {}),
        ((normal(2, 8, 9), 6, 2), {"stride": 2}),
        ((normal(1, 9, 9), 5, 3), {"padding": 1, "stride": 2}),
    ],
    "gumbel_softmax": [
        ((normal(2, 5),), {"hard": hard, "tau": tau}) for hard, tau in ((False, 1.0), (True, 1.0), (False, 0.3))
    ],
    "native_channel_shuffle": [((normal(1, 4 * g, 3, 2), g), {}) for g in (2, 3, 4)],
    "upsample": [
        ((normal(1, 2, 3, 5),), {"scale_factor": 2}),
        ((normal(1, 2, 3, 5),), {"size": (7, 4), "mode": "bilinear"}),
        ((normal(1, 2, 6),), {"size": 4}),
    ],
}
