"""Whether tensors that were compiled in have changed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_SAMPLE = 256  # elements that are looked at of a larger tensor
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_stepped: dict[int, int] = {}  # address of a parameter -> which step was the last that an optimiser took with it
_taken = 0  # steps of all optimisers so far


def _note_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    global _taken
    if torch.compiler.is_compiling():
        return
    _taken += 1
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            _stepped[parameter.data_ptr()] = _taken


register_optimizer_step_post_hook(_note_step)


class Weights:
    """The state of some tensors at one time.

    A change shows in a tensor's address or version, in a step of an optimiser that holds it (fused ones count no
    version), or in the bits of its elements: of all if there are at most 256, of as many evenly spaced ones otherwise.
    So what changes a large tensor behind PyTorch's back, through `.data`, a NumPy view or another process, is seen
    unless it leaves all of these as they are.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._places = _places(tensors)
        self._step = _taken
        views: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            if tensor.numel():
                views.setdefault(tensor.dtype, []).append(_sampled(tensor.detach()))
        self._views = tuple(views.values())
        self._bits = self._present_bits()

    def changed(self, tensors: Sequence[torch.Tensor]) -> bool:
        """Whether the tensors, in the same order, are other ones or have other values."""
        if _places(tensors) != self._places or self._was_stepped():
            return True
        return not all(map(torch.equal, self._present_bits(), self._bits))

    def _was_stepped(self) -> bool:
        since, self._step = self._step, _taken
        return since != _taken and any(_stepped.get(address, 0) > since for address, _ in self._places)

    def _present_bits(self) -> list[torch.Tensor]:
        return [torch.cat(views).view(_BITS[views[0].element_size()]) for views in self._views]


def _places(tensors: Sequence[torch.Tensor]) -> list[tuple[int, object]]:
    # An inference tensor's changes are not counted: an object that equals no other says "changed" each time.
    return [(t.data_ptr(), object() if t.is_inference() else t._version) for t in tensors]


def _sampled(tensor: torch.Tensor) -> torch.Tensor:
    """Some elements of a tensor, on its own memory, in one dimension."""
    strides = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    dense, expected = True, 1
    for stride, extent in strides:
        dense = dense and (extent == 1 or stride == expected)
        expected *= extent
    if not dense:  # it lies with gaps, or repeats itself: its first elements along the longest axis
        axis = max(range(tensor.dim()), key=lambda k: tensor.shape[k])
        tensor = tensor[tuple(slice(None) if k == axis else 0 for k in range(tensor.dim()))]
        return tensor[:: -(-len(tensor) // _SAMPLE)]
    step = -(-tensor.numel() // _SAMPLE)
    return tensor.as_strided((-(-tensor.numel() // step),), (step,), tensor.storage_offset())
