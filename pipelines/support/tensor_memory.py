"""How much memory tensors take."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of all tensors; those that begin at the same place in memory count once."""
    return sum({x.data_ptr(): x.nbytes for x in tensors}.values())
