"""What a search found, as data, as JSON and as files."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.layout.pad_channels import PadChannels, padded_channels
from loopmorph.passes.lowering.to_llvm import layout_passes

FILES = ("report.json", "schedule.mlir", "optimized.mlir", "model.pt")


@dataclass(frozen=True)
class LayerReport:
    """One layer that the schedule changes; times are medians in milliseconds, None where not measured.

    `inherited_error` is the relative error of the network's outputs when only this layer's neural transformations are
    applied and its weights inherited (see `pipelines/oracle/inherited_error.py`); None where it was not measured.
    """

    name: str
    transforms: tuple[str, ...]
    ms_before: float | None
    ms_after: float | None
    macs_before: int
    macs_after: int
    inherited_error: float | None = None


@dataclass(frozen=True)
class CandidateReport:
    """One candidate and what became of it.

    Attributes:
        transforms: pass texts, in order.
        outcome: "accepted" (legal, checked, timed), "structure", "fisher" or "failed".
        reason: why it was refused; empty for an accepted one.
        fisher: the Fisher Potential of the network with it, None where it was not measured.
        ms_before, ms_after: median milliseconds of all the layers that it changes.
    """

    transforms: tuple[str, ...]
    outcome: str
    reason: str = ""
    fisher: float | None = None
    ms_before: float | None = None
    ms_after: float | None = None


@dataclass(frozen=True)
class Report:
    """A finished or interrupted search. Times are medians in milliseconds, interleaved on one machine.

    Attributes:
        model, threads, seed, data: what was asked for; `data` says where the images came from.
        baseline_ms, optimized_ms, speedup: the whole network, before and after, by the same code generator.
        fisher_original, fisher_optimized, fisher_standard_error: Fisher Potential (mean over repeats) and the
            standard error of the original's; None where it was not measured.
        legal: the optimised network's potential is not below the original's.
        candidates: candidates drawn; rejected_structure, rejected_fisher, failed: how many fell at which gate.
        max_abs_error: largest difference between the compiled network and `.model`, as a share of the largest output.
        inherited_error: relative error of `.model`'s outputs, with inherited weights and before any fine-tuning, from
            the original's on the minibatch.
        inherit: which of the old weights it inherits, "slice", "mean" or "salient" (see `pipelines/oracle/inherit.py`);
            None where nothing was chosen.
        inherited_errors: each way that was tried -> that error.
        macs_before, macs_after, parameters_before, parameters_after: of the whole network.
        seconds_total: wall time.
        interrupted: the search was stopped before it had drawn every candidate.
        layers: the layers that the schedule changes.
        details: every candidate drawn.
        padded_channels: the channels that the code pads to the vector width: "layer3.0.conv1 co 100 -> 112".
    """

    model: str
    threads: int
    seed: int
    data: str
    baseline_ms: float | None
    optimized_ms: float | None
    speedup: float | None
    fisher_original: float | None
    fisher_optimized: float | None
    fisher_standard_error: float | None
    legal: bool | None
    candidates: int
    rejected_structure: int
    rejected_fisher: int
    failed: int
    max_abs_error: float | None
    inherited_error: float | None
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    seconds_total: float
    interrupted: bool
    layers: tuple[LayerReport, ...]
    details: tuple[CandidateReport, ...]
    padded_channels: tuple[str, ...] = ()
    inherit: str | None = None
    inherited_errors: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def padding(module: ir.Module) -> tuple[str, ...]:
    """The channels that compilation pads to the vector width (see `Report`); the module stays as it is.

    Raises:
        IllegalTransform: the module cannot be compiled.
    """
    with module.context:
        copy = ir.Module.parse(str(module))  # `copy_module` would bring torch into `loopmorph-opt`
    for step in layout_passes():
        step.run(copy.operation)
        if isinstance(step, PadChannels):
            break
    return tuple(str(channels) for channels in padded_channels(copy.operation))


def prepare_folder(folder: Path) -> None:
    """Makes sure that results can be written to the folder, before any long work.

    Raises:
        ArgumentError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise ArgumentError("out", f"cannot write to '{folder}': it is a file, not a folder") from error
    except OSError as error:
        raise ArgumentError("out", f"cannot write to '{folder}': {error.strerror or error}") from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], *, argument: str = "out") -> None:
    """Writes a file beside its place and moves it there when it is whole.

    Args:
        path: the file.
        write: writes the content.
        argument: who named the file, for the error.

    Raises:
        ArgumentError: the file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
            os.chmod(name, 0o666 & ~current_umask())  # a temporary file is its owner's alone
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ArgumentError(argument, f"cannot write '{path}': {error.strerror or error}") from error


def current_umask() -> int:
    """The permission bits that this process takes from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
