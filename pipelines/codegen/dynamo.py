"""`torch.compile(model, backend="loopmorph")`: Dynamo's graphs as compiled loop nests, for inference on the CPU.

A graph that cannot be compiled runs in eager PyTorch, with one `FallbackWarning` that says why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import fx

from loopmorph.passes.errors import ArgumentError, LoopmorphWarning
from loopmorph.pipelines.codegen.dynamo_compiled import REFUSALS, CompiledGraph, EachSize, Settings
from loopmorph.pipelines.codegen.dynamo_graph import has_sizes
from loopmorph.pipelines.codegen.threads import check_threads

Compiled = Callable[..., Sequence[torch.Tensor]]
_OPTIONS = tuple(each.name for each in fields(Settings))
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_modes_told: set[str] = set()


class FallbackWarning(LoopmorphWarning):
    """A graph runs in eager PyTorch; the text says why."""


def loopmorph(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """The backend that `torch.compile(..., backend="loopmorph")` finds through its entry point.

    Parameters and buffers are compiled in; when one has been assigned or changed since the last call, the code is built
    again, at most 8 times. What is seen of a change: address and version, the steps of optimisers, and the bits of all
    elements of small tensors and of 256 of larger ones; see `Weights` for what escapes.

    The code is compared with PyTorch once it is built (see `loopmorph.pipelines.codegen.check`). Where it differs, the
    graph runs in eager PyTorch. So does one that changes an input or a parameter, or whose outputs share memory.

    A graph of any size (`dynamic=True`, or a second batch size) is compiled anew for each size that it is called with.

    Args:
        graph: a graph that Dynamo captured.
        example_inputs: what it will be called with first: parameters, buffers, inputs, sizes.
        mode: `torch.compile`'s `mode`; it changes nothing here, and a `LoopmorphWarning` says so once.
        options: `torch.compile`'s `options`: `threads` of the code, 1 by default; `check`, False for no comparison;
            `sizes`, how many a graph is compiled for before others run in eager PyTorch, 8 by default.

    Returns:
        A function of the graph's inputs: compiled code, or the graph itself, after a `FallbackWarning`.

    Raises:
        ArgumentError: an option or a mode that does not exist, or an option's value.
    """
    settings = _settings(options or {})
    _accept_mode(mode)

    def fall_back(reason: str) -> None:
        _warn(graph, reason)

    if has_sizes(graph, example_inputs):
        return EachSize(graph, settings, fall_back)
    try:
        return CompiledGraph(graph, tuple(example_inputs), settings, fall_back)
    except REFUSALS as error:
        fall_back(str(error))
        return graph.forward


def _settings(options: Mapping[str, Any]) -> Settings:
    for name in options:
        if name not in _OPTIONS:
            raise ArgumentError("options", f"unknown option '{name}'; known are: {', '.join(_OPTIONS)}")
    settings = Settings(**options)
    check_threads(settings.threads)
    if not isinstance(settings.check, bool):
        raise ArgumentError("options", f"'check' is True or False, got {settings.check!r}")
    if isinstance(settings.sizes, bool) or not isinstance(settings.sizes, int) or settings.sizes < 1:
        raise ArgumentError("options", f"'sizes' is a positive number, got {settings.sizes!r}")
    return settings


def _accept_mode(mode: str | None) -> None:
    if mode is None or mode == "default":
        return
    if mode not in _MODES:
        raise ArgumentError("mode", f"unknown mode '{mode}'; known are: {', '.join(_MODES)}")
    if mode not in _modes_told:
        _modes_told.add(mode)
        text = f"loopmorph: mode '{mode}' changes nothing; lm.compile(..., tune=SECONDS) measures what is fastest"
        warnings.warn(text, LoopmorphWarning, stacklevel=2)


def _warn(graph: fx.GraphModule, reason: str) -> None:
    operations = sum(node.op.startswith("call") for node in graph.graph.nodes)
    text = f"loopmorph: a graph of {operations} operations runs in eager PyTorch: {reason}"
    warnings.warn(text, FallbackWarning, stacklevel=4)
