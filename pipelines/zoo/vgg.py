"""VGG-11 (Simonyan and Zisserman 2015) for 32x32 images: convolutions with biases and no normalisation."""

from __future__ import annotations

import torch
from torch import nn

# Output channels of each convolution; None is a max-pool.
_PLAN = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512)


class VGG(nn.Module):
    """Eight 3x3 convolutions in five stages with a max-pool between stages, and a linear classifier.

    The last max-pool of the original is left out: a 512x2x2 map remains, so that the flatten before the classifier
    mixes channels with both spatial dimensions.

    Args:
        classes: number of logits.
    """

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in _PLAN:
            if outputs is None:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(512 * 2 * 2, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) images -> (N, classes) logits."""
        return self.linear(self.features(x).flatten(1))
