"""The machine code of a program: looked up, or compiled and kept for the next time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch_mlir.execution_engine import ExecutionEngine

from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.lowering.split_prepare import PREPARE, RUN
from loopmorph.pipelines.codegen.engine import Argument, CompiledModule, NativeFunction, TeamFunction, allocate_for
from loopmorph.pipelines.codegen.object_code import ObjectCode, ObjectFileError
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.program import Program, copy_module
from loopmorph.pipelines.store.code_cache import CodeCache, Entry, code_cache, key_of


@dataclass(frozen=True)
class CompiledCode:
    """The machine code of a program.

    Attributes:
        prepare: to be called once, when the parameters and the packed memrefs are bound.
        run: computes the outputs.
        steps: the transformations that made the code from the imported network, as pass texts, in order.
        cached: whether it was found in the cache.
    """

    prepare: NativeFunction
    run: NativeFunction
    steps: tuple[str, ...]
    cached: bool


def compiled_code(program: Program, threads: int) -> CompiledCode:
    """The code of a program, looked up in the cache of compiled networks (see `CodeCache`) or else compiled and kept.

    Args:
        program: the program.
        threads: number of threads that it is to use.

    Raises:
        ArgumentError: a number of threads that this computer does not admit.
        IllegalTransform: a loop marked as parallel is not.
        CompilationFailed: an operation that cannot be lowered.
    """
    check_threads(threads)
    with code_cache() as cache:
        if cache is None:
            return _compiled(program, threads)
        key = key_of("code", str(threads), str(program.module))
        found = _found(cache, key, threads)
        if found is None:
            found = _compiled(program, threads)
            _keep(cache, key, found)
        return found


def bind_memory(code: CompiledCode, program: Program) -> list[torch.Tensor | np.ndarray]:
    """Binds the program's parameters and new packed memrefs and scratch; returns what must stay alive."""
    parameters = program.parameters
    functions = (code.prepare, code.run)
    kept: dict[tuple[str, str | int], torch.Tensor | np.ndarray] = {**allocate_for(functions, ("packed", "scratch"))}
    for function in functions:
        for position, argument in enumerate(function.arguments):
            if argument.role in ("input", "output", "clock"):
                continue
            name = (argument.role, argument.key)
            if name not in kept:
                kept[name] = _parameter(parameters, argument)
            memory = kept[name]
            function.bind(position, memory.data_ptr() if isinstance(memory, torch.Tensor) else memory.ctypes.data)
    return list(kept.values())


def _parameter(parameters: dict[str, torch.Tensor], argument: Argument) -> torch.Tensor:
    tensor = parameters[str(argument.key)].detach()
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _compiled(program: Program, threads: int) -> CompiledCode:
    module = CompiledModule(copy_module(program.module), threads)
    return CompiledCode(module.prepare, module.run, module.steps, cached=False)


def _found(cache: CodeCache, key: str, threads: int) -> CompiledCode | None:
    entry = cache.get(key)
    if entry is None:
        return None
    try:
        # All that the functions ask of an engine is where a function's code lies.
        engine = cast(ExecutionEngine, ObjectCode(entry.content))
        prepare = NativeFunction(engine, PREPARE, _arguments(entry, PREPARE))
        if threads == 1:
            run = NativeFunction(engine, RUN, _arguments(entry, RUN))
        else:
            run = TeamFunction(engine, RUN, _arguments(entry, RUN), threads)
    except (ObjectFileError, CompilationFailed) as error:
        cache.reject(key, str(error))
        return None
    return CompiledCode(prepare, run, tuple(entry.about["steps"]), cached=True)


def _keep(cache: CodeCache, key: str, code: CompiledCode) -> None:
    """Stores code that can be loaded again; on some processors none can."""
    content = code.run.object_file()
    try:
        ObjectCode(content)
    except ObjectFileError:
        return
    arguments = {name: _described(function.arguments) for name, function in ((PREPARE, code.prepare), (RUN, code.run))}
    cache.put(key, Entry({"steps": list(code.steps), "arguments": arguments}, content))


def _described(arguments: Sequence[Argument]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(argument) for argument in arguments]


def _arguments(entry: Entry, function: str) -> tuple[Argument, ...]:
    return tuple(_argument(described) for described in entry.about["arguments"][function])


def _argument(described: Mapping[str, Any]) -> Argument:
    return Argument(**{**described, "shape": tuple(described["shape"])})
