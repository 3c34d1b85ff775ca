"""After surgery: the model's own code may hand a layer a view (a slice, a shuffle) that the layer's nests compute, too.

Importing turns such views into accesses, so that the nests of the layer read what the view was made of. A layer that
was raised to PyTorch's own operation is put back behind the view by comparing it with the layer as it was imported
(`behind_view`); of one that runs as its nests this is only found out by running those on what the code hands over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.raise_nest import Convolution, Linear
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.nests_as_module import nests_as_module
from loopmorph.pipelines.oracle.surgery_check import CodeDiffers, eval_mode
from loopmorph.pipelines.oracle.surgery_layers import padding_of
from loopmorph.pipelines.rewritten.nest_module import NestModule
from loopmorph.pipelines.support.hooks import hooked

Pair = tuple[int, int]


def behind_view(module: nn.Module, now: Convolution | Linear, imported: Convolution | Linear | None) -> Any:
    """The raised layer as a function of what the model's own code hands to the module.

    Args:
        module: the module as imported.
        now: what its nests compute now.
        imported: what they computed when they were imported.
    """
    if isinstance(module, nn.Conv2d) and isinstance(now, Convolution) and isinstance(imported, Convolution):
        return replace(now, channels=_channels(now, imported), padding=_padding(module, now, imported))
    if isinstance(now, Linear) and isinstance(imported, Linear):
        same = now.source_features == imported.source_features
        return replace(now, source_features=imported.in_features) if same else now
    return now


def _channels(now: Convolution, imported: Convolution) -> tuple[int, ...] | None:
    """The channels that are read, counted within the view; None where these are all."""
    if now.channels is None or imported.channels is None:
        return now.channels
    if now.source_channels != imported.source_channels:
        # A slice of a dimension that shrank: the code's own slice has shrunk with it, or will not run.
        first, total = now.channels[0] * imported.source_channels, imported.channels[0] * now.source_channels
        same = len(now.channels) * imported.source_channels == len(imported.channels) * now.source_channels
        whole = now.channels == tuple(range(now.channels[0], now.channels[0] + len(now.channels)))
        return None if first == total and same and whole else now.channels
    places = {channel: k for k, channel in enumerate(imported.channels)}
    if any(channel not in places for channel in now.channels):
        return now.channels
    within = tuple(places[channel] for channel in now.channels)
    return None if within == tuple(range(len(imported.channels))) else within


def _padding(module: nn.Conv2d, now: Convolution, imported: Convolution) -> tuple[Pair, Pair]:
    """The zeros to add around the view: rows and columns that the code's own slice leaves out count as there."""
    own = padding_of(module)
    if imported.padding == own or now.input_size != imported.input_size:
        return now.padding
    (top, bottom), (left, right) = (
        tuple(now.padding[k][side] - imported.padding[k][side] + own[k][side] for side in range(2)) for k in range(2)
    )
    return (top, bottom), (left, right)


def require_no_view(program: Network, layers: Mapping[str, Sequence[Nest]]) -> None:
    """Runs the imported model once, if there is something to look at.

    Args:
        program: the rewritten program.
        layers: module path -> the nests, as imported, of each layer that is to run as its nests.

    Raises:
        CodeDiffers: the model's own code hands one of the modules something else than what its nests read.
    """
    if not layers:
        return
    model = program.model
    with eval_mode(model), torch.no_grad(), hooked(_comparing(program, layers)):
        model(*program.example_inputs, **program.example_kwargs)


def _comparing(program: Network, layers: Mapping[str, Sequence[Nest]]) -> Iterator[RemovableHandle]:
    modules = dict(program.model.named_modules(remove_duplicate=False))
    for path, nests in layers.items():
        twin = nests_as_module(nests, program.imported)
        if isinstance(modules[path], nn.Linear):
            twin.take_rows()

        def compare(
            _: nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            path: str = path,
            twin: NestModule = twin,
        ) -> None:
            (given,) = (*args, *kwargs.values())
            if not _computes(twin, given, output):
                reason = "its nests read their input through a view (a slice, a shuffle) that the model's own code"
                reason = f"{reason} computes, so that no module can take its place"
                raise CodeDiffers(f"layer '{path}'", reason, path.rpartition(".")[0])

        yield modules[path].register_forward_hook(compare, with_kwargs=True)


def _computes(twin: NestModule, given: torch.Tensor, output: torch.Tensor) -> bool:
    """Whether the nests compute from an input the output that the module does."""
    try:
        own = twin(given)
    except ArgumentError:
        return False
    if own.numel() != output.numel():
        return False
    return torch.allclose(own.reshape(output.shape), output, rtol=1e-3, atol=1e-4, equal_nan=True)
