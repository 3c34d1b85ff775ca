"""Random shifts and flips of image batches, as one gather."""

from __future__ import annotations

import torch


def shifted_and_flipped(
    images: torch.Tensor, chosen: torch.Tensor, padding: int, flip: bool, generator: torch.Generator
) -> torch.Tensor:
    """A crop of each chosen image out of itself with a mirrored border, half of them mirrored left to right.

    Args:
        images: (N, C, H, W) of any type, on any device.
        chosen: (M,) int64 indices, on the CPU.
        padding: pixels by which an image is shifted at most, both ways; less where it is not larger than that.
        flip: whether to mirror.
        generator: the CPU's; draws the same numbers wherever the images are.

    Returns:
        (M, C, H, W) of the same type, on the images' device.
    """
    rows = _places(images.shape[2], padding, len(chosen), generator)
    columns = _places(images.shape[3], padding, len(chosen), generator)
    if flip:
        mirrored = torch.rand(len(chosen), generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    device = images.device
    channels = torch.arange(images.shape[1], device=device)[None, :, None, None]
    place = chosen.to(device)[:, None, None, None]
    return images[place, channels, rows.to(device)[:, None, :, None], columns.to(device)[:, None, None, :]]


def _places(extent: int, padding: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, extent): which pixels of an axis a shifted window reads, mirrored at the ends without repeating them."""
    most = min(padding, extent - 1)
    shift = torch.randint(-most, most + 1, (count,), generator=generator)
    place = (torch.arange(extent)[None] + shift[:, None]).abs()
    return (extent - 1) - (extent - 1 - place).abs()
