"""How long each layer of a compiled network takes within the network."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.compiled_code import bind_memory
from loopmorph.pipelines.codegen.jit import compile_module
from loopmorph.pipelines.codegen.memory import allocate_for
from loopmorph.pipelines.codegen.native import NativeCode
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.support.collection import paused_collection

_SETTLING = 3  # calls that do not count


@dataclass(frozen=True)
class Profile:
    """A profile of a network.

    Attributes:
        seconds: layer -> median seconds of all its nests in one call, in program order; "" is the network's own
            forward.
        total: median seconds of one call of the code.
    """

    seconds: Mapping[str, float]
    total: float


def profile(program: Network, threads: int = 1, target: Target | None = None, *, calls: int = 40) -> Profile:
    """Compiles a network with a clock read between the layers (see `morph-time-layers`) and calls it.

    What a layer takes is what it adds to the network's time: its inputs lie where the layers before it left them, its
    weights where the call before left them, and a wait for other threads counts to the layer that is waited for.

    Args:
        program: the network; its example inputs are computed on.
        threads: number of threads.
        target: the processor; this computer by default.
        calls: how many count.

    Raises:
        ArgumentError: a number of threads that this computer does not admit.
        IllegalTransform: a loop marked as parallel is not.
        CompilationFailed: an operation that cannot be lowered.
    """
    with paused_collection():
        code = compile_module(copy_module(program.module), resolve_target(target), threads, timed=True)
    return profile_code(code, program, calls=calls)


def profile_code(code: NativeCode, program: Network, *, calls: int = 40) -> Profile:
    """The profile of a network of which there is timed code already (see `lower`).

    Args:
        code: the network's.
        program, calls: as in `profile`.
    """
    memory = bind_memory(code, program.parameters)
    own = allocate_for([code.run.arguments], ("input", "output", "clock"))
    for position, argument in enumerate(code.run.arguments):
        if (name := (argument.role, argument.key)) in own:
            code.run.bind(position, own[name].ctypes.data)
            if argument.role == "input":
                values = program.example_tensors[int(argument.key)].numpy(force=True)
                own[name][:] = values.reshape(-1).view(np.uint8)
    code.prepare()
    ticks, seconds = _run(code, own["clock", 0].view(np.int64), calls)
    del memory  # alive until here: the code reads it
    return _times(code.interface.layers, ticks * seconds)


def _run(code: NativeCode, clock: np.ndarray, calls: int) -> tuple[np.ndarray, float]:
    """The ticks between the clock's stamps in each call, and the seconds of a tick."""
    stamps = np.empty((calls, len(clock)), np.int64)
    for _ in range(_SETTLING):
        code.run()
    first, started = clock[-1], time.perf_counter()
    for k in range(calls):
        code.run()
        stamps[k] = clock
    seconds = time.perf_counter() - started
    return np.diff(stamps, axis=1), seconds / max(1, int(clock[-1] - first))


def _times(layers: tuple[str, ...], seconds: np.ndarray) -> Profile:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for position, layer in enumerate(layers):
        places[layer].append(position)
    medians = {layer: float(np.median(seconds[:, mine].sum(axis=1))) for layer, mine in places.items()}
    return Profile(medians, float(np.median(seconds.sum(axis=1))))
