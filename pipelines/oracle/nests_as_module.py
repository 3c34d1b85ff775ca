"""The nests of one layer as a PyTorch module, as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from loopmorph.passes.nest import Nest
from loopmorph.passes.raising.nest_extract import extract
from loopmorph.passes.raising.raise_nest import raise_convolution
from loopmorph.pipelines.rewritten.nest_module import NestModule


def nests_as_module(
    nests: Sequence[Nest],
    parameters: Mapping[str, torch.Tensor],
    prefix: str = "",
    trainable: frozenset[str] | None = None,
) -> NestModule:
    """The module that runs the nests of a layer.

    Args:
        nests: all of them, in program order.
        parameters, prefix, trainable: as `NestModule` takes them.

    Raises:
        IllegalTransform: an operation without a case in PyTorch (named), or not exactly one output.
        ArgumentError: a parameter is missing, or has another shape.
    """
    recipe = extract(nests).recipe
    is_convolution = raise_convolution(nests) is not None
    return NestModule(recipe, parameters, prefix, trainable, is_convolution=is_convolution)
