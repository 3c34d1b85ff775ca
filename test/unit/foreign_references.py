"""What the modules of test/foreign compute, in numpy and PyTorch; arguments in the order of the functions'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

Reference = Callable[..., Any]


def _last(convolve: Callable[..., torch.Tensor]) -> Callable[..., np.ndarray]:
    """A function of images whose channels come first, on images where they come last."""

    def run(image: np.ndarray, *rest: torch.Tensor, **options: Any) -> np.ndarray:
        return convolve(torch.tensor(image).permute(0, 3, 1, 2), *rest, **options).permute(0, 2, 3, 1).numpy()

    return run


def _weight(array: np.ndarray, *order: int) -> torch.Tensor:
    return torch.tensor(array).permute(*order)


def _conv_nhwc_hwcf(x: np.ndarray, w: np.ndarray, **options: Any) -> np.ndarray:
    return _last(F.conv2d)(x, _weight(w, 3, 2, 0, 1), **options)


def _conv_nchw(x: np.ndarray, w: np.ndarray, groups: int = 1) -> np.ndarray:
    return F.conv2d(torch.tensor(x), torch.tensor(w), groups=groups).numpy()


def _block(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _conv_nhwc_hwcf(np.maximum(_conv_nhwc_hwcf(x, w), 0), v, padding=1)


def _grouped(x: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The first convolution in two groups, with the blocks of its weight that inherit."""
    return _conv_nchw(_conv_nchw(x, np.concatenate([w[:2, :2], w[2:, 2:]]), groups=2), v)


def _grouped_layouts(x: Any, w: Any, a: Any, y: Any, v: Any, b: Any) -> list[np.ndarray]:
    merged = _conv_nchw(x.reshape(1, 4, 5, 5), w.reshape(6, 2, 3, 3), groups=2).reshape(a.shape)
    return [merged + a, _last(F.conv2d)(y, _weight(v[:, :, None], 3, 2, 0, 1), groups=4) + b]


def _every_other(x: np.ndarray) -> np.ndarray:
    found = np.zeros_like(x)
    found[1:9:2] = x[0:8:2] - x[2:10:2]
    return found


def _jacobi(x: np.ndarray) -> np.ndarray:
    found = np.zeros_like(x)
    found[1:5, 1:9] = (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]) / 4
    return found


def _wavefront(x: np.ndarray) -> np.ndarray:
    found = x.copy()
    for i in range(4):
        found[i + 1, :5] = 2 * found[i, 1:]
    return found


def _insert_row(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = y.copy()
    found[1] = x[2]
    return found


def _conv_tosa(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.clip(_last(F.conv2d)(x, _weight(w, 0, 3, 1, 2), torch.tensor(b), padding=1), 0, 6)


def _depthwise_tosa(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    weight = _weight(w, 2, 3, 0, 1).reshape(6, 1, 3, 3)
    return _last(F.conv2d)(x, weight, torch.tensor(b), groups=3)


def _softmax(x: np.ndarray) -> np.ndarray:
    return F.softmax(torch.tensor(x), 1).numpy()


REFERENCES: dict[str, Reference] = {
    "hand/doubles": lambda x, y, z: z + 2 * np.outer(x, y),
    "hand/grouped_layouts": _grouped_layouts,
    "hand/jacobi": _jacobi,
    "hand/located": lambda x, w, v: _conv_nchw(_conv_nchw(x, w), v),
    "hand/mlp": lambda x, w, v: np.tanh(x @ w) @ v,
    "hand/mlp_pinned": lambda x, w: x @ w,
    "hand/nhwc_block": _block,
    "hand/scalars": lambda x, y, start: [x @ y + start, (x @ y + start) ** 2],
    "hand/slices": _insert_row,
    "hand/two_nests": lambda a, b: np.maximum(a @ b, 0),
    "hand/wavefront": _wavefront,
    "tosa/argmax": lambda x: x.argmax(1).astype(np.int32),
    "tosa/conv": _conv_tosa,
    "tosa/depthwise": _depthwise_tosa,
    "tosa/fully_connected": lambda x, w, b: 1 / (1 + np.exp(-(x @ w.T + b))),
    "tosa/integers": lambda x, y: np.maximum(x * y, x).sum(1, dtype=np.int32),
    "tosa/layout": lambda x: np.tanh(x.transpose(2, 0, 1).reshape(4, 6)),
    "tosa/matmul": lambda x, y: x @ y,
    "tosa/max_pool": lambda x: _last(F.max_pool2d)(x, kernel_size=3, stride=2),
    "tosa/slices": lambda x, y: np.concatenate([x[:, 1:4], y], 1)[:, ::-1],
    "tosa/pad": lambda x: np.pad(x, ((1, 2), (0, 2)), constant_values=1.5),
    "tosa/softmax": _softmax,
    "upstream/apply": lambda x: x.reshape(12),
    "upstream/calls": lambda a: a @ a @ a,
    "upstream/carried": lambda x: x.sum(1),
    "upstream/conv_1d": lambda x, w, y: y + np.correlate(x, w),
    "upstream/named_elementwise": lambda x, v: abs(x * v).T,
    "upstream/pool_nhwc": lambda x, y: y + 9 * _last(F.avg_pool2d)(x, kernel_size=3, stride=3),
    "upstream/steps": _every_other,
    "upstream/tiled": lambda a, b, c: c + a @ b,
    "upstream/transposed_maps": lambda a, b, c: c + a.T @ b.T,
    "upstream/triangular": lambda a, c: c + np.tril(a @ a.T),
}

# After a pipeline that changes the network.
CHANGED: dict[str, Reference] = {
    "hand/located": _grouped,
    "hand/mlp": lambda x, w, v: np.tanh(x @ w[:, :4]) @ v[:4],
    "hand/nhwc_block": lambda x, w, v: _block(x, w[..., :2], v[:, :, :2]),
}
