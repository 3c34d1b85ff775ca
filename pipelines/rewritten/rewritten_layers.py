"""PyTorch's own layers, extended by what rewritten nests may do: read a part of their input, pad unevenly."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class SlicedConv2d(nn.Conv2d):
    """`nn.Conv2d` over some of its input's channels, with each border padded by itself.

    Args:
        channels: the input's channels that are read, in the order of the weight's; None for all.
        uneven_padding: zeros added (left, right, top, bottom), besides `padding`; a negative number leaves out so many
            rows or columns.
        arguments: those of `nn.Conv2d`; `in_channels` counts the channels that are read.
    """

    def __init__(
        self,
        *arguments: Any,
        channels: tuple[int, ...] | None = None,
        uneven_padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.channels = channels
        self.uneven_padding = uneven_padding

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, out_channels, OH, OW)."""
        if self.channels is not None:
            first, count = self.channels[0], len(self.channels)
            if self.channels == tuple(range(first, first + count)):
                input = input.narrow(1, first, count)
            else:
                input = input.index_select(1, torch.tensor(self.channels, device=input.device))
        if any(self.uneven_padding):
            input = functional.pad(input, self.uneven_padding)
        return super().forward(input)

    def extra_repr(self) -> str:
        """`nn.Conv2d`'s, and what is special."""
        read = "" if self.channels is None else f", reads channels {self.channels[0]}..{self.channels[-1]}"
        return super().extra_repr() + read + (f", pads {self.uneven_padding}" if any(self.uneven_padding) else "")


class SlicedLinear(nn.Linear):
    """`nn.Linear` over the first `in_features` features of a larger input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., at least in_features) to (..., out_features)."""
        return super().forward(input.narrow(-1, 0, self.in_features))
