"""How far a rewritten network with inherited weights is from the original, before any fine-tuning."""

from __future__ import annotations

import copy

import torch
from torch.utils._pytree import tree_leaves

from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.surgery import to_module
from loopmorph.pipelines.support.devices import exact_arithmetic, resolve_device


def inherited_error(
    original: Network, program: Network, *inputs: torch.Tensor, device: torch.device | str | None = None
) -> float:
    """The relative error of the outputs, ||rewritten - original|| / ||original|| over the whole batch, in eval mode.

    Every transformation says where the new weights come from (`morph.inherit`): slices, blocks, means, the identity.
    This is what that costs; 0 means that the network computes the same, 1 that nothing is left of its outputs.

    Args:
        original: the network as imported.
        program: the rewritten one.
        inputs: the network's inputs; an image network's is (N, C, H, W).
        device: where to compute; None takes a CUDA device when there is one.

    Raises:
        IllegalTransform: the network's own code cannot run with the new shapes.
    """
    place = resolve_device(device)
    inputs = tuple(x.to(place) for x in inputs)
    with torch.no_grad(), exact_arithmetic():
        expected = _flat(copy.deepcopy(original.model).to(place).eval()(*inputs))
        found = _flat(to_module(program).to(place).eval()(*inputs))
        norm = torch.linalg.vector_norm(expected).clamp_min(torch.finfo(expected.dtype).tiny)
        return float(torch.linalg.vector_norm(found - expected) / norm)


def _flat(outputs: object) -> torch.Tensor:
    """All real outputs in one vector."""
    return torch.cat(
        [y.flatten() for y in tree_leaves(outputs) if isinstance(y, torch.Tensor) and y.is_floating_point()]
    )
