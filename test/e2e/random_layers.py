"""The steps of random networks: what may be drawn for a shape, and the module that it is.

A step is a kind and its options, plain values, so that a network is a text that can be run again. Each kind has a
function that draws options for a shape (None: none fit) and one that makes the module.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Shape = tuple[int, ...]
Options = dict[str, Any]
Step = tuple[str, Options]
Draw = Callable[[random.Random, Shape], Options | None]
Make = Callable[[Shape, Options], nn.Module]

ACTIVATIONS = (
    *("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh", "Hardtanh"),
    *("Hardswish", "Hardsigmoid", "Hardshrink", "Softshrink", "Tanhshrink", "Softplus", "Softsign", "LogSigmoid"),
)
PADDINGS = ("constant", "reflect", "replicate", "circular")


class Function(nn.Module):
    """A module that is a function of its input."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Joined(nn.Module):
    """Branches over the same input, or over its parts, then added, multiplied or concatenated."""

    def __init__(self, branches: list[nn.Module], how: str, parts: list[int] | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.how, self.parts = how, parts

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inputs = [x] * len(self.branches) if self.parts is None else x.split(self.parts, 1)
        results = [branch(part) for branch, part in zip(self.branches, inputs, strict=True)]
        if self.how == "concat":
            return torch.cat(results, 1)
        first, *rest = results
        for other in rest:
            first = first + other if self.how == "add" else first * other
        return first


class Attention(nn.Module):
    """Self-attention over the places of a feature map, and the map again."""

    def __init__(self, channels: int, heads: int, masked: bool) -> None:
        super().__init__()
        self.heads, self.masked = heads, masked
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(channels),
            nn.Linear(channels, 3 * channels),
            nn.Linear(channels, channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(2).transpose(1, 2)
        n, t, c = y.shape
        q, k, v = self.qkv(self.norm(y)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.masked)
        return x + self.out(y.transpose(1, 2).reshape(n, t, c)).transpose(1, 2).reshape(x.shape)


# ---- convolutions


def _groups(rng: random.Random, channels: int) -> int:
    return rng.choice([1, 1, 1, channels, *(g for g in (2, 3, 4) if channels % g == 0)])


def _draw_conv(rng: random.Random, shape: Shape) -> Options:
    sizes = shape[2:]
    groups = _groups(rng, shape[1])
    square = rng.random() < 0.5
    kernel = [rng.choice([1, 2, 3, 3, 5])] * len(sizes) if square else [rng.choice([1, 2, 3, 4]) for _ in sizes]
    options = {
        "outputs": groups * rng.randint(1, 9 if groups == 1 else 3),
        "kernel": kernel,
        "stride": [rng.choice([1, 1, 2, 3]) for _ in sizes],
        "padding": [rng.choice([0, k // 2, k // 2, k - 1]) for k in kernel],
        "dilation": [rng.choice([1, 1, 1, 2]) for _ in sizes],
        "groups": groups,
        "bias": rng.random() < 0.5,
        "mode": rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]),
    }
    if rng.random() < 0.2:
        options |= {"padding": "same", "stride": [1] * len(sizes)}
    return options


def _make_conv(shape: Shape, o: Options) -> nn.Module:
    make = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 3]
    padding = o["padding"] if isinstance(o["padding"], str) else tuple(o["padding"])
    return make(
        *(shape[1], o["outputs"], tuple(o["kernel"]), tuple(o["stride"]), padding, tuple(o["dilation"])),
        *(o["groups"], o["bias"], o["mode"]),
    )


def _draw_transposed(rng: random.Random, shape: Shape) -> Options:
    sizes = shape[2:]
    groups = _groups(rng, shape[1])
    kernel = [rng.choice([1, 2, 3, 4]) for _ in sizes]
    stride = [rng.choice([1, 2, 2, 3]) for _ in sizes]
    return {
        "outputs": groups * rng.randint(1, 3),
        "kernel": kernel,
        "stride": stride,
        "padding": [rng.randrange(k) for k in kernel],
        "output_padding": [rng.randrange(s) for s in stride],
        "dilation": [rng.choice([1, 1, 1, 2]) for _ in sizes],
        "groups": groups,
        "bias": rng.random() < 0.5,
    }


def _make_transposed(shape: Shape, o: Options) -> nn.Module:
    make = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(shape) - 3]
    return make(
        *(shape[1], o["outputs"], tuple(o["kernel"]), tuple(o["stride"]), tuple(o["padding"])),
        *(tuple(o["output_padding"]), o["groups"], o["bias"], tuple(o["dilation"])),
    )


# ---- pooling, normalisation, activation


def _draw_pool(rng: random.Random, shape: Shape) -> Options:
    kernel = [rng.choice([1, 2, 3, 3]) for _ in shape[2:]]
    kind = rng.choice(["max", "max", "avg", "avg", "lp"])
    options = {
        "kind": kind,
        "kernel": kernel,
        "stride": [rng.choice([1, 2, 2, 3]) for _ in kernel],
        "ceil_mode": rng.random() < 0.3,
    }
    if kind != "lp":
        options["padding"] = [rng.randint(0, k // 2) for k in kernel]
    if kind == "max":
        options["dilation"] = [rng.choice([1, 1, 2]) for _ in kernel]
    if kind == "avg":
        options["count_include_pad"] = rng.random() < 0.5
    return options


def _make_pool(shape: Shape, o: Options) -> nn.Module:
    make = getattr(nn, {"max": "MaxPool", "avg": "AvgPool", "lp": "LPPool"}[o["kind"]] + f"{len(shape) - 2}d")
    one = (lambda value: value[0]) if len(shape) == 3 else tuple
    rest = {k: one(v) if isinstance(v, list) else v for k, v in o.items() if k not in ("kind", "kernel")}
    return make(*([2.0] if o["kind"] == "lp" else []), one(o["kernel"]), **rest)


def _draw_adaptive(rng: random.Random, shape: Shape) -> Options:
    return {"kind": rng.choice(["Max", "Avg"]), "size": [rng.randint(1, s + 2) for s in shape[2:]]}


def _make_adaptive(shape: Shape, o: Options) -> nn.Module:
    return getattr(nn, f"Adaptive{o['kind']}Pool{len(shape) - 2}d")(tuple(o["size"]))


def _draw_norm(rng: random.Random, shape: Shape) -> Options:
    kind = rng.choice(["batch", "batch", "instance", "group", "layer", "channels", "response"])
    options: Options = {"kind": kind}
    if kind == "group":
        options["groups"] = rng.choice([g for g in (1, 2, 3, 4, shape[1]) if shape[1] % g == 0])
    return options


def _make_norm(shape: Shape, o: Options) -> nn.Module:
    channels, dims = shape[1], len(shape) - 2
    if o["kind"] == "batch":
        return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](channels)
    if o["kind"] == "instance":
        return (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims - 1](channels, affine=True)
    if o["kind"] == "group":
        return nn.GroupNorm(o["groups"], channels)
    if o["kind"] == "response":
        return nn.LocalResponseNorm(3)
    if o["kind"] == "layer":
        return nn.LayerNorm(shape[2:])
    last = Function(lambda x: x.movedim(1, -1))
    return nn.Sequential(last, nn.LayerNorm(channels), Function(lambda x: x.movedim(-1, 1)))


def _draw_activation(rng: random.Random, shape: Shape) -> Options:
    return {"kind": rng.choice([*ACTIVATIONS, "PReLU", "GLU", "Softmax"])}


def _make_activation(shape: Shape, o: Options) -> nn.Module:
    options = {"PReLU": (shape[1],), "GLU": (1,), "Softmax": (1,)}.get(o["kind"], ())
    return getattr(nn, o["kind"])(*options)


# ---- sizes


def _draw_resize(rng: random.Random, shape: Shape) -> Options:
    smooth = {3: "linear", 4: "bilinear", 5: "trilinear"}[len(shape)]
    mode = rng.choice(["nearest", "nearest-exact", smooth, smooth, "area", *(["bicubic"] if len(shape) == 4 else [])])
    options: Options = {"mode": mode}
    if rng.random() < 0.5 or mode == "area":
        options["size"] = [rng.randint(1, 2 * s) for s in shape[2:]]
    else:
        options["scale_factor"] = [rng.choice([2.0, 2.0, 3.0, 0.5, 1.3, 1.7, 0.6]) for _ in shape[2:]]
    if mode in (smooth, "bicubic"):
        options["align_corners"] = rng.random() < 0.5
        if mode == "bilinear" and rng.random() < 0.2:
            options["antialias"] = True
    return options


def _make_resize(shape: Shape, o: Options) -> nn.Module:
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in o.items()}
    return Function(lambda x: functional.interpolate(x, **options))


def _draw_pad(rng: random.Random, shape: Shape) -> Options:
    mode = rng.choice(PADDINGS)
    low = -2 if mode == "constant" else 0
    amounts = [rng.randint(low, min(3, s - 1)) for s in reversed(shape[2:]) for _ in range(2)]
    options: Options = {"mode": mode, "amounts": amounts}
    if mode == "constant" and rng.random() < 0.5:
        options["value"] = rng.choice([-1.0, 0.5, 2.0])
    return options


def _make_pad(shape: Shape, o: Options) -> nn.Module:
    return Function(lambda x: functional.pad(x, o["amounts"], o["mode"], o.get("value", 0.0) if "value" in o else None))


def _draw_crop(rng: random.Random, shape: Shape) -> Options:
    begin = [rng.randint(0, s // 2) for s in shape[2:]]
    return {
        "begin": begin,
        "end": [rng.randint(b + 1, s) for b, s in zip(begin, shape[2:], strict=True)],
        "step": rng.choice([1, 1, 2]),
    }


def _make_crop(shape: Shape, o: Options) -> nn.Module:
    places = tuple(slice(b, e, o["step"]) for b, e in zip(o["begin"], o["end"], strict=True))
    return Function(lambda x: x[(slice(None), slice(None), *places)])


def _draw_shuffle(rng: random.Random, shape: Shape) -> Options | None:
    possible: list[Options] = [{"kind": "channels", "factor": g} for g in (2, 3, 4) if shape[1] % g == 0]
    if len(shape) == 4:
        possible += [{"kind": "up", "factor": r} for r in (2, 3) if shape[1] % (r * r) == 0]
        possible += [{"kind": "down", "factor": r} for r in (2, 3) if all(s % r == 0 for s in shape[2:])]
    return rng.choice(possible) if possible else None


def _make_shuffle(shape: Shape, o: Options) -> nn.Module:
    if o["kind"] == "channels":
        return Function(lambda x: x.unflatten(1, (o["factor"], -1)).transpose(1, 2).flatten(1, 2))
    return (nn.PixelShuffle if o["kind"] == "up" else nn.PixelUnshuffle)(o["factor"])


def _draw_move(rng: random.Random, shape: Shape) -> Options:
    axes = list(range(2, len(shape)))
    if rng.random() < 0.5:
        return {"kind": "permute", "axes": rng.sample(axes, len(axes))}
    return {"kind": rng.choice(["flip", "roll"]), "axes": [rng.choice(axes)]}


def _make_move(shape: Shape, o: Options) -> nn.Module:
    if o["kind"] == "permute":
        return Function(lambda x: x.permute(0, 1, *o["axes"]))
    return Function(lambda x: x.flip(o["axes"]) if o["kind"] == "flip" else x.roll(1, o["axes"][0]))


# ---- branches


def _draw_attention(rng: random.Random, shape: Shape) -> Options | None:
    if torch.Size(shape[2:]).numel() > 64:
        return None
    return {"heads": rng.choice([h for h in (1, 2, 4) if shape[1] % h == 0]), "masked": rng.random() < 0.3}


def _make_attention(shape: Shape, o: Options) -> nn.Module:
    return Attention(shape[1], o["heads"], o["masked"])


def _draw_gate(rng: random.Random, shape: Shape) -> Options:
    return {"inner": rng.randint(1, 4), "kind": rng.choice(["Sigmoid", "Hardsigmoid"])}


def _make_gate(shape: Shape, o: Options) -> nn.Module:
    dims = len(shape) - 2
    conv, pool = getattr(nn, f"Conv{dims}d"), getattr(nn, f"AdaptiveAvgPool{dims}d")
    gate = nn.Sequential(pool(1), conv(shape[1], o["inner"], 1), nn.ReLU(), conv(o["inner"], shape[1], 1))
    return Joined([nn.Identity(), nn.Sequential(gate, getattr(nn, o["kind"])())], "multiply")


def _draw_branches(rng: random.Random, shape: Shape) -> Options:
    kinds = [rng.choice(["identity", "conv", "pool", "norm"]) for _ in range(rng.choice([2, 2, 3]))]
    return {"how": rng.choice(["add", "add", "concat", "multiply"]), "kinds": kinds}


def _make_branches(shape: Shape, o: Options) -> nn.Module:
    return Joined([_same_size(kind, shape[1], len(shape) - 2) for kind in o["kinds"]], o["how"])


def _draw_split(rng: random.Random, shape: Shape) -> Options | None:
    if shape[1] < 2:
        return None
    cut = rng.choice([shape[1] // 2, rng.randint(1, shape[1] - 1)])
    parts = [cut, shape[1] - cut]
    return {
        "parts": parts,
        "kinds": [rng.choice(["identity", "conv", "norm"]) for _ in parts],
        "swapped": rng.random() < 0.3,
    }


def _make_split(shape: Shape, o: Options) -> nn.Module:
    branches = [_same_size(k, c, len(shape) - 2) for k, c in zip(o["kinds"], o["parts"], strict=True)]
    joined = Joined(branches, "concat", o["parts"])
    return nn.Sequential(joined, Function(lambda x: x.roll(1, 1))) if o["swapped"] else joined


def _same_size(kind: str, channels: int, dims: int) -> nn.Module:
    """A layer that keeps channels and sizes."""
    if kind == "identity":
        return nn.Identity()
    if kind == "conv":
        return getattr(nn, f"Conv{dims}d")(channels, channels, 3, padding=1)
    if kind == "pool":
        return getattr(nn, f"AvgPool{dims}d")(3, 1, 1)
    return nn.Sequential(getattr(nn, f"BatchNorm{dims}d")(channels), nn.ReLU())


def _draw_linear(rng: random.Random, shape: Shape) -> Options:
    return {"outputs": rng.randint(1, 7), "bias": rng.random() < 0.7}


def _make_linear(shape: Shape, o: Options) -> nn.Module:
    return nn.Linear(shape[-1], o["outputs"], o["bias"])


KINDS: dict[str, tuple[int, Draw, Make]] = {  # how often, what is drawn, what is made
    "conv": (6, _draw_conv, _make_conv),
    "transposed": (3, _draw_transposed, _make_transposed),
    "pool": (3, _draw_pool, _make_pool),
    "adaptive": (2, _draw_adaptive, _make_adaptive),
    "norm": (3, _draw_norm, _make_norm),
    "activation": (4, _draw_activation, _make_activation),
    "resize": (3, _draw_resize, _make_resize),
    "pad": (3, _draw_pad, _make_pad),
    "crop": (1, _draw_crop, _make_crop),
    "shuffle": (2, _draw_shuffle, _make_shuffle),
    "move": (1, _draw_move, _make_move),
    "attention": (2, _draw_attention, _make_attention),
    "gate": (1, _draw_gate, _make_gate),
    "branches": (3, _draw_branches, _make_branches),
    "split": (2, _draw_split, _make_split),
    "linear": (1, _draw_linear, _make_linear),
}
