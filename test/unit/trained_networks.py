"""A small network that is trained, and the images that it tells apart."""

from __future__ import annotations

import copy
import functools

import torch
from networks import Residual
from patterns import CLASSES, patterns
from torch import nn
from torch.nn import functional

from loopmorph.pipelines.data.batches import Batch
from loopmorph.pipelines.legality.calibration import Calibration, CalibrationNetwork, Provenance

ABOUT = Provenance("net", "no such network", "patterns", 8, "made up")
_STEPS = 40


def pattern_batch(count: int, seed: int = 2) -> Batch:
    """Images as the network takes them, in random order, with their labels."""
    found = patterns(count, seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return Batch(found.normalised(found.images)[order], found.labels[order], CLASSES, found.source)


def trained_residual(width: int = 8) -> nn.Module:
    """`Residual`, trained for a moment on the patterns, which it then tells apart almost always; in eval mode.

    It is trained once in a process, and the caller's own.
    """
    return copy.deepcopy(_trained(width))


@functools.cache
def _trained(width: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Residual(width, CLASSES).train()
    batch = pattern_batch(128, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
    return model.eval()


def calibration(count: int = 12, accuracy: float = 90.0) -> Calibration:
    """Networks that lose ten points for each nat, exactly."""
    kls = [0.02 * (k + 1) for k in range(count)]
    networks = tuple(CalibrationNetwork(f"{kl:g}", {"kl": kl}, accuracy - 10 * kl) for kl in kls)
    return Calibration(ABOUT, accuracy, networks)
