"""Where a rewritten network is from, and how its file tells that; a network that was loaded knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_ATTRIBUTE = "loopmorph_origin"


@dataclass(frozen=True)
class Origin:
    """What a file of a network holds beside the weights.

    Attributes:
        model: the original network: the name of one of the zoo, `package.module:factory`, or the path of a `.pt2`.
        seed: that the original was built with.
        schedules: what turned the original into the network, as texts, one after the other; none where nothing did,
            or that is not known.
        changes, tied: see `describe_changes` and `tied_names`.
        loose: the names of the buffers that no state dict has, and that are not the original's.
        shapes: of the state dict.
    """

    model: str
    seed: int
    schedules: tuple[str, ...] = ()
    changes: list[dict[str, Any]] = field(default_factory=list)
    tied: list[list[str]] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __deepcopy__(self, _: Any) -> Origin:
        """Itself: a copy of a network is from where the network is from."""
        return self


def origin_of(module: nn.Module) -> Origin | None:
    """Where a network is from; None where that is not known. Copies of a network know it, too."""
    found = getattr(module, _ATTRIBUTE, None)
    return found if isinstance(found, Origin) else None


def remember(module: nn.Module, origin: Origin) -> None:
    """Lets a network know where it is from."""
    setattr(module, _ATTRIBUTE, origin)


def state_shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what a state dict holds."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
