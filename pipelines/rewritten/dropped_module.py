"""`DroppedModule`: zeros in the place of a module that was dropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class DroppedModule(nn.Module):
    """In the place of a module that was dropped: gives zeros of its output's shape, and holds nothing.

    Args:
        shape: of the output.
        rows: of the input, along axis 0, that gave this shape; with other inputs the output has rows in proportion.
    """

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        super().__init__()
        self.shape, self.rows = shape, rows

    def forward(self, *inputs: Any, **named: Any) -> torch.Tensor:
        """Zeros, with the dtype, on the device and, of images, in the order in memory of the first tensor given."""
        given = next(x for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor))
        zeros = given.new_zeros(given.shape[0] * self.shape[0] // self.rows, *self.shape[1:])
        if given.dim() == zeros.dim() == 4 and given.is_contiguous(memory_format=torch.channels_last):
            return zeros.contiguous(memory_format=torch.channels_last)
        return zeros

    def extra_repr(self) -> str:
        """The shape of the zeros."""
        return f"shape={self.shape}"
