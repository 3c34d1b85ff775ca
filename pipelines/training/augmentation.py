"""Random shifts and flips of image batches, as one gather, squares that are erased, and rectangles of other images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from loopmorph.pipelines.support.devices import sent


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
    place = sent(chosen, device)[:, None, None, None]
    return images[place, channels, sent(rows, device)[:, None, :, None], sent(columns, device)[:, None, None, :]]


def squares(shape: torch.Size, side: int, generator: torch.Generator) -> torch.Tensor:
    """One square in each image, its centre drawn from all pixels, so that it may lie partly outside.

    Args:
        shape: (N, C, H, W) of the images.
        side: of the square, in pixels.
        generator: the CPU's.

    Returns:
        (N, 1, H, W) bool, on the CPU; true within the square.
    """
    rows, columns = (_interval(shape[0], extent, side, generator) for extent in shape[2:])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def mixed(
    images: torch.Tensor, labels: torch.Tensor, classes: int, share: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A rectangle of some images replaced by that of another one of the batch (CutMix, Yun et al. 2019).

    A rectangle has the image's proportions; its area is drawn evenly from none to all of it, its centre from all
    pixels, and what lies outside is cut off. The label becomes that of each image by the share of its pixels.

    Args:
        images: (N, C, H, W), on any device.
        labels: (N,) int64 below `classes`, there.
        classes: how many there are.
        share: of the images that are mixed.
        generator: the CPU's.

    Returns:
        The images, and (N, classes) float32, which add up to 1.
    """
    count, device = len(images), images.device
    side = torch.rand(count, 1, generator=generator).sqrt() * (torch.rand(count, 1, generator=generator) < share)
    rows, columns = (_middle(extent, side * extent, generator) for extent in images.shape[2:])
    replaced = (rows[:, :, None] & columns[:, None, :])[:, None]
    other = sent(torch.randperm(count, generator=generator), device)
    kept = sent(1 - replaced.float().mean((2, 3)), device)
    targets = F.one_hot(labels, classes).float()
    return torch.where(sent(replaced, device), images[other], images), kept * targets + (1 - kept) * targets[other]


def _middle(extent: int, length: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(count, extent) bool: pixels of an axis nearer than half of `length`, (count, 1), to a point that is drawn."""
    middle = torch.rand(length.shape, generator=generator) * extent
    return (torch.arange(extent)[None] + 0.5 - middle).abs() < length / 2


def _interval(count: int, extent: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """(count, extent) bool: pixels of an axis that lie within `side` pixels about a centre that is drawn."""
    first = torch.randint(extent, (count, 1), generator=generator) - side // 2
    place = torch.arange(extent)[None]
    return (place >= first) & (place < first + side)


def _places(extent: int, padding: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, extent): which pixels of an axis a shifted window reads, mirrored at the ends without repeating them."""
    most = min(padding, extent - 1)
    shift = torch.randint(-most, most + 1, (count,), generator=generator)
    place = (torch.arange(extent)[None] + shift[:, None]).abs()
    return (extent - 1) - (extent - 1 - place).abs()
