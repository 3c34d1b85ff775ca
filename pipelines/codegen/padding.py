"""Which channels compilation pads to the vector width."""

from __future__ import annotations

from loopmorph.passes.layout.pad_channels import PadChannels, padded_channels
from loopmorph.passes.lowering.to_llvm import layout_passes
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.network import Network, copy_module


def padding(network: Network, target: Target) -> tuple[str, ...]:
    """The channels that compilation pads: "layer3.0.conv1 co 100 -> 112"; the network stays as it is.

    Raises:
        IllegalTransform: the network cannot be compiled.
    """
    copy = copy_module(network.module)
    for step in layout_passes(target):
        step.run(copy.operation)
        if isinstance(step, PadChannels):
            break
    return tuple(str(channels) for channels in padded_channels(copy.operation))
