"""The network of these programs: an image and words in, as many scores as there are classes out."""

from __future__ import annotations

import torch
from torch import nn


class Tagged(nn.Module):
    """A convolution of the image, and the sum of the words' vectors, meet in a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.words = nn.Embedding(20, 16)
        self.linear = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.conv(image)).mean((2, 3))
        return self.linear(seen + self.words(words).sum(1))


def tagged() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The network with its example inputs; each call gives the same."""
    torch.manual_seed(0)
    return Tagged().eval(), (torch.randn(1, 3, 8, 8), torch.randint(20, (1, 4)))
