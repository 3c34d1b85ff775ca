"""Processes that train one network together: those that `torchrun` has started on this computer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.support.devices import resolve_device


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; each has its share of every batch, and its own device.

    Attributes:
        rank: number of this one, from 0.
        count: how many there are.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    def own(self, what: str) -> str:
        """A name under which this process draws numbers of its own."""
        return what if self.rank == 0 else f"{what} of process {self.rank}"

    def share(self, size: int) -> slice:
        """This process's part of a batch.

        Raises:
            ArgumentError: the batch has no parts of equal size.
        """
        if size % self.count:
            reason = f"expected a multiple of {self.count}, the number of processes, got {size} images a step"
            raise ArgumentError("batch_size", reason)
        return slice(self.rank, size, self.count)

    def mean(self, value: float) -> float:
        """The mean of a number over all processes, the same in each."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float32, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.count

    def joined(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are means over all processes; its parameters and buffers become the first's."""
        if self.count == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=True)

    def settle(self, model: nn.Module) -> None:
        """Makes the buffers (means and variances of each one's own images) those of the first process."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def is_first() -> bool:
    """Whether this process is the one that tells and writes."""
    return not _launched() or os.environ.get("RANK") == "0"


@contextmanager
def training_processes(device: torch.device | str | None) -> Iterator[Processes]:
    """The processes that train together: the one that there is, or under `torchrun` all that it has started.

    Args:
        device: as for `finetune`; under `torchrun` each process takes the CUDA device of its own number.

    Raises:
        ArgumentError: no such device, or fewer devices than processes.
    """
    if not _launched():
        yield Processes(0, 1, resolve_device(device))
        return
    if dist.is_initialized():
        raise ArgumentError("device", "this script has set up torch.distributed already; expected to do that itself")
    place = _own_device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()


def _launched() -> bool:
    """Whether `torchrun` has started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def _own_device(device: torch.device | str | None) -> torch.device:
    place = resolve_device(device)
    if place.type != "cuda":
        return place
    if place.index is not None:
        raise ArgumentError("device", f"'{device}' is one device; with torchrun, cuda or cpu is expected")
    return resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
