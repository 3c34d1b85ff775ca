"""The machine code of a network: looked up, or compiled and kept for the next time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.jit import Jitted
from loopmorph.pipelines.codegen.library import Library, LibraryError, link
from loopmorph.pipelines.codegen.lowered import Interface, lower
from loopmorph.pipelines.codegen.memory import allocate_for
from loopmorph.pipelines.codegen.native import NativeCode, native_code
from loopmorph.pipelines.codegen.signature import Argument
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.store.code_cache import CodeCache, Entry, code_cache, key_of


@dataclass(frozen=True)
class CompiledCode:
    """The machine code of a network.

    Attributes:
        native: its functions.
        cached: whether it was found in the cache.
    """

    native: NativeCode
    cached: bool


def compiled_code(network: Network, target: Target, threads: int) -> CompiledCode:
    """The code of a network, looked up in the cache of compiled networks (see `CodeCache`) or else compiled and kept.

    Args:
        network: the network.
        target: the processor; the code has to run on this computer.
        threads: number of threads that it is to use.

    Raises:
        ArgumentError: a number of threads that this computer does not admit.
        IllegalTransform: a loop marked as parallel is not.
        CompilationFailed: an operation that cannot be lowered.
    """
    check_threads(threads)
    with code_cache() as cache:
        if cache is None:
            return CompiledCode(_jitted(network, target, threads)[1], cached=False)
        key = key_of("code", str(target), str(threads), str(network.module))
        found = _found(cache, key)
        if found is not None:
            return CompiledCode(found, cached=True)
        code, native = _jitted(network, target, threads)
        _keep(cache, key, code, native.interface)
        return CompiledCode(native, cached=False)


def bind_memory(native: NativeCode, parameters: Mapping[str, torch.Tensor]) -> list[torch.Tensor | np.ndarray]:
    """Binds the parameters and new packed memrefs and scratch; returns what must stay alive."""
    functions = (native.prepare, native.run)
    signatures = [function.arguments for function in functions]
    kept: dict[tuple[str, str | int], torch.Tensor | np.ndarray] = {**allocate_for(signatures, ("packed", "scratch"))}
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


def _parameter(parameters: Mapping[str, torch.Tensor], argument: Argument) -> torch.Tensor:
    tensor = parameters[str(argument.key)].detach()
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _jitted(network: Network, target: Target, threads: int) -> tuple[Jitted, NativeCode]:
    lowered = lower(copy_module(network.module), target, threads)
    code = Jitted(lowered)
    return code, native_code(code, lowered.interface)


def _found(cache: CodeCache, key: str) -> NativeCode | None:
    entry = cache.get(key)
    if entry is None:
        return None
    try:
        return native_code(Library(entry.content), Interface.from_json(entry.about))
    except (LibraryError, CompilationFailed, KeyError, TypeError) as error:
        cache.reject(key, str(error))
        return None


def _keep(cache: CodeCache, key: str, code: Jitted, interface: Interface) -> None:
    """Stores the code as a library; where none can be made or loaded, once says so."""
    try:
        content = link(code.object_file())
        Library(content)
    except LibraryError as error:
        cache.cannot_keep(str(error))
        return
    cache.put(key, Entry(interface.as_json(), content))
