"""`export`: from a network to a C library, and what a C or C++ project needs to build with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.instructions import why_not_here
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.export.dependencies import dependency_text, loaded_sources
from loopmorph.pipelines.codegen.export.folder import FORMATS, ExportFolder, Format
from loopmorph.pipelines.codegen.export.make import Wanted, make_export, require_possible
from loopmorph.pipelines.codegen.export.ports import Port, check_name
from loopmorph.pipelines.codegen.export.targets import read_targets
from loopmorph.pipelines.compile import as_program, transformed
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.measure.target import this_computer
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.search.saved_model import Original, load_program
from loopmorph.pipelines.support.interrupts import held_interrupts
from loopmorph.pipelines.support.progress import Progress, silent, stage
from loopmorph.pipelines.tuning.tune import check_seconds

WEIGHTS = ("file", "embedded")
SAVED = ".pt"


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        name: the network's name in C.
        folder: where the files lie.
        files: their names, the header first.
        inputs, outputs: what `NAME_run` takes after the model, in this order.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def export(
    model: nn.Module | Program | str | Path,
    example_inputs: tuple[Any, ...] | None = None,
    *,
    out: str | Path,
    name: str | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    threads: int = 1,
    target: Target | str | Sequence[Target | str] | None = None,
    format: Format = "library",
    weights: str = "file",
    schedule: str | None = None,
    tune: float | None = None,
    original: Original | None = None,
    seed: int = 0,
    trust: bool = False,
    check: bool = True,
    progress: Progress = silent,
) -> Exported:
    """Writes the inference form of a network as C code can use it, without Python, PyTorch or LLVM.

    The folder gets `NAME.h`, which declares `NAME_prepare`, `NAME_run`, `NAME_free` and `NAME_message`; `NAME.d`, which
    lists what the network was made from; the weights as `NAME.safetensors`; and, by format:

    - "library": `libNAME.so`, `libNAME.a` and `NAMEConfig.cmake`, which need a C compiler here;
    - "object": `NAME.c` and `NAME_code.o`, to be compiled and linked by somebody's own build;
    - "llvm-ir": `NAME.c` and `NAME_code.ll`, likewise, for any processor.

    Files of an earlier export of this name are written anew, or removed where they are no part of this one. No other
    file is touched.

    Args:
        model: a module; a program; or as the command takes it, a zoo name, `package.module:factory`, the path of a
            `.pt2` or of a `model.pt` that `loopmorph optimize` wrote.
        example_inputs, example_kwargs: for a module: see `compile`.
        out: the folder; made where it is missing.
        name: how C calls the network; "model", or the zoo's name or the file's, by default.
        threads: number of threads that each call uses, the calling one included.
        target: the processor, by name or as a `Target`; this computer's by default. The code runs on every processor
            that has its vector instructions, and refuses others when it is prepared. Of several, in a list or separated
            by commas, each gets code of its own, and the best that runs is chosen when the model is prepared.
        format: see above.
        weights: "file" or "embedded", in the code itself.
        schedule: transformations to apply first, as `Program.apply` takes them.
        tune: seconds in which to measure what is fastest on this computer (see `compile`).
        original: for a `model.pt`: what it was made from, where that is not of the zoo (see `load_model`).
        seed: of the weights, for what builds a network anew.
        trust: whether a `.pt2` may run code that it holds.
        check: whether to compare the code that is written with PyTorch, as `compile` does.
        progress: called with "import", then as `make_export` does, as each stage begins (0 of 1) and ends (1 of 1).

    Raises:
        ArgumentError: an argument of the wrong type or range; a folder that cannot be written, or that has somebody
            else's file of such a name.
        DataError: a `model.pt` that cannot be read.
        ImportRefused: the module cannot be imported.
        IllegalTransform: the program does not admit the schedule.
        CompilationFailed: an operation cannot be lowered, or there is no C compiler that makes a library.
        WrongResult: the code computes something else than PyTorch, which is a fault of loopmorph.
    """
    _check_choice("format", format, FORMATS)
    _check_choice("weights", weights, WEIGHTS)
    name = _default_name(model) if name is None else name
    check_name("name", name)
    targets = (this_computer(),) if target is None else read_targets(target)
    require_possible(targets, threads, format)
    if tune is not None:
        _check_tuning(tune, targets)
    embedded = weights == "embedded"
    folder = ExportFolder(Path(out), name)
    names = folder.files_of(format, embedded=embedded)
    folder.make_ready(names)
    sources: list[Path] = []
    if isinstance(model, str | Path):
        if example_inputs is not None or example_kwargs is not None:
            raise ArgumentError("example_inputs", f"'{model}' has its example inputs already; leave them out")
        sources = [Path(each) for each in (model, original) if isinstance(each, str | Path) and Path(each).is_file()]
        with stage(progress, "import"):
            program = _loaded(str(model), original, seed=seed, trust=trust)
    else:
        _refuse_original(original, "what is in memory")
        with stage(progress, "import"):
            program = as_program(model, example_inputs, example_kwargs)
    program = transformed(program, targets[0], threads, schedule=schedule, tune=tune)
    wanted = Wanted(program, name, targets, threads, format, embedded, check)
    ports, files = make_export(wanted, progress)
    files[f"{name}.d"] = dependency_text(folder.header, [*sources, *loaded_sources()]).encode()
    with held_interrupts():  # the files of one export belong together
        folder.write(files)
    return Exported(name, folder.path, tuple(files), ports.inputs, ports.outputs)


def _loaded(text: str, original: Original | None, *, seed: int, trust: bool) -> Program:
    if text.endswith(SAVED):
        return load_program(text, original)
    _refuse_original(original, f"'{text}'")
    loaded = resolve_model(text, seed=seed, trust=trust)
    return import_model(loaded.model, loaded.example_inputs)


def _refuse_original(original: Original | None, model: str) -> None:
    if original is not None:
        raise ArgumentError("original", f"{model} is no model{SAVED}, which alone is made from another network")


def _check_tuning(seconds: float, targets: tuple[Target, ...]) -> None:
    check_seconds(seconds)
    if len(targets) > 1:
        raise ArgumentError("tune", f"what is fastest is measured for one target; got {', '.join(map(str, targets))}")
    (target,) = targets
    reason = why_not_here(target)
    if reason is not None:
        raise ArgumentError("tune", f"code for {target} cannot be measured on this computer: {reason}")


def _default_name(model: object) -> str:
    """The zoo's or the factory's name, a file's without its ending, "model" for what is in memory."""
    if not isinstance(model, str | Path):
        return "model"
    return Path(str(model).rpartition(":")[2]).stem


def _check_choice(argument: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ArgumentError(argument, f"expected one of {', '.join(accepted)}; got {value!r}")
