"""A `model.pt` as a program: its original imported, the schedules applied to it, and the file's weights put in.

Importing the loaded module instead would give nests for what the module computes, which is more than the program does
where own nests run as slices and sums of PyTorch; and what tuning has chosen would be lost.
"""

from __future__ import annotations

import torch
from torch import nn

from loopmorph.passes.errors import DataError, IllegalTransform, one_line
from loopmorph.pipelines.ingress.models import LoadedModel
from loopmorph.pipelines.oracle.surgery_check import eval_mode
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.rewritten.model_file import ModelFile, describe_origin
from loopmorph.pipelines.rewritten.origin import origin_of, remember

_TOLERANCE = 3e-5  # of the largest output: what the same sums in another order may differ by


def program_of(loaded: LoadedModel) -> Program:
    """The program of a network that `resolve_model` has found.

    Raises:
        DataError: the schedules of a `model.pt` make another network than its changes do.
        ImportRefused: the network cannot be imported.
    """
    return saved_program(loaded.name, loaded.model, loaded.original, loaded.example_inputs)


def saved_program(
    name: str, module: nn.Module, original: nn.Module | None, inputs: tuple[torch.Tensor, ...]
) -> Program:
    """The program of a network that was loaded.

    Args:
        name: what messages call it.
        module: the network; without an original, or where no schedule is known, it is imported itself.
        original: what it was made from, with any weights.
        inputs: examples.

    Raises:
        DataError, ImportRefused: as for `program_of`.
    """
    origin = origin_of(module)
    if original is None or origin is None or not origin.schedules:
        return import_model(module, inputs)
    program = import_model(original, inputs)
    try:
        for number, schedule in enumerate(origin.schedules):
            if number:
                program = import_model(program.to_module(), inputs)
            program = program.apply(schedule)
        program = program.with_weights(module)
        same = _same(program, module)
    except (IllegalTransform, ValueError) as error:
        raise DataError(f"{name}: its schedule cannot be applied to its original: {one_line(str(error))}") from error
    if not same:
        raise DataError(f"{name}: its schedule makes another network than the one that it holds")
    return program


def replayed(file: ModelFile, original: nn.Module, inputs: tuple[torch.Tensor, ...]) -> nn.Module:
    """The network of a file of the former format, which has no changes.

    Raises:
        DataError: its weights are not those of the rebuilt network.
        IllegalTransform: the original network does not admit the schedule.
        ImportRefused: it cannot be imported.
    """
    (schedule,) = file.origin.schedules
    module = import_model(original, inputs).apply(schedule).to_module()
    try:
        module.load_state_dict(file.state)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = f"its weights do not fit the rebuilt network: {str(error).splitlines()[0]}"
        raise DataError(f"{file.path}: {reason}") from error
    remember(module, describe_origin(module, original, file.origin.model, file.origin.seed, schedule))
    return module


def _same(program: Program, module: nn.Module) -> bool:
    """Whether the program's module computes on the example inputs what another does."""
    twin = program.to_module()
    with eval_mode(module), eval_mode(twin), torch.no_grad():
        pairs = [program.results(each(*program.example_inputs)) for each in (module, twin)]
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= _TOLERANCE * max(1e-6, float(b.abs().max()))
        for a, b in zip(*pairs, strict=True)
    )
