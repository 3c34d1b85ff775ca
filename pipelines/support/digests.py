"""What identifies tensors: a digest of their elements."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def digest_of(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256 of all elements, in row-major order and one tensor after the other, in hexadecimal."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(elements_of(tensor))
    return found.hexdigest()


def elements_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor's elements in row-major order."""
    data: memoryview = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
    return data
