"""BlockSwap's substitutes for the convolutions of a block (Turner et al., ICLR 2020, section 4), made by our schedules.

    S            the block as it is
    G(g)         its convolutions in g groups, each followed by a pointwise one
    B(b)         its convolutions on 1/b of the channels, between two pointwise ones
    BG(b,g)      as B(b), in g groups

N is the number of channels that a convolution's inputs and outputs have in common (their greatest common divisor, of
each group where it has groups already), M is N/b. All convolutions of a block get the same one. The authors' code has
BatchNorm and ReLU between the convolutions of a substitute; a schedule puts none there.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from loopmorph.passes.errors import ArgumentError, IllegalTransform, ImportRefused
from loopmorph.passes.history import Step
from loopmorph.pipelines.legality.size import parameter_count
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.schedules import load_schedule
from loopmorph.pipelines.support.blocks import find_blocks
from loopmorph.pipelines.support.hooks import hooked
from loopmorph.pipelines.support.inference import switch_to_inference
from loopmorph.pipelines.support.module_paths import is_within

STANDARD = "S"
_ALONE = "0"  # the layer's name in a network of nothing else
_BOTTLENECKS = (2, 4)
_GROUPS = (2, 4, 8, 16)
_SHARES = (16, 8, 4, 2, 1)  # of the channels, in each group


@dataclass(frozen=True)
class Substitute:
    """What takes a convolution's place.

    Attributes:
        module: the substitute.
        steps: the transformations that make it, of a layer of any name (see `Step.on`).
        added: how many more parameters it has than the convolution; negative where it has fewer.
    """

    module: nn.Module
    steps: tuple[Step, ...]
    added: int


@dataclass(frozen=True)
class Option:
    """One of the choices for a block.

    Attributes:
        name: as above.
        layers: qualified name of each convolution -> what takes its place; none for the block as it is.
    """

    name: str
    layers: Mapping[str, Substitute]

    @property
    def added(self) -> int:
        """How many more parameters the block has."""
        return sum(each.added for each in self.layers.values())


def block_options(program: Program, *, pointwise: bool = False) -> dict[str, tuple[Option, ...]]:
    """What each block of a network may become, the block as it is first.

    Blocks are those that Fisher Potential probes (see `find_blocks`); a network without any has each of its
    convolutions for one. Those substitutes are left out that one of the block's convolutions does not admit, or that
    are the same as another in this block.

    Args:
        program: the network, as it was imported.
        pointwise: whether convolutions of size 1 are substituted, too; BlockSwap leaves them.

    Returns:
        Qualified name of each block that has a choice -> its options.
    """
    known: dict[tuple[str, tuple[int, ...]], _Alone | None] = {}
    found: dict[str, tuple[Option, ...]] = {}
    for block, layers in _convolutions(program, pointwise).items():
        alone = {name: _alone(module, shape, known) for name, (module, shape) in layers.items()}
        usable = {name: each for name, each in alone.items() if each is not None}
        options = [Option(STANDARD, {}), *_options(usable)]
        if len(options) > 1:
            found[block] = tuple(options)
    return found


# --- which convolutions ---

_Convolution = tuple[nn.Module, tuple[int, ...]]


def _convolutions(program: Network, pointwise: bool) -> dict[str, dict[str, _Convolution]]:
    """Block -> its convolutions that run once, each with the shape of its input."""
    twin = switch_to_inference(copy.deepcopy(program.model)).requires_grad_(False)
    blocks = find_blocks(twin, program.example_inputs[0])
    layers = {layer.name for layer in program.layers}
    found: dict[str, dict[str, _Convolution]] = {}
    for name, shape in _runs(twin, program.example_inputs).items():
        module = program.model.get_submodule(name)
        if name not in layers or not (pointwise or math.prod(_kernel(module)) > 1):
            continue
        around = [block for block in blocks if is_within(name, block)]
        if around or not blocks:
            found.setdefault(max(around, key=len, default=name), {})[name] = module, shape
    return found


def _kernel(module: nn.Module) -> Sequence[int]:
    size: Any = module.kernel_size
    return tuple(size)


def _runs(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, tuple[int, ...]]:
    """Each convolution that runs exactly once -> the shape of its input."""
    shapes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def watching(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def on_call(_module: nn.Module, args: tuple[Any, ...]) -> None:
            calls[name] += 1
            shapes[name] = tuple(args[0].shape)

        return module.register_forward_pre_hook(on_call)

    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    with hooked(watching(*each) for each in convolutions), torch.no_grad():
        model(*inputs)
    return {name: shape for name, shape in shapes.items() if calls[name] == 1}


# --- what they may become ---


@dataclass(frozen=True)
class _Alone:
    """A convolution as a network of its own, and its substitutes by schedule and values, as far as it admits them."""

    program: Program
    channels: int
    made: dict[tuple[str, int, int], Substitute | None]

    def substitute(self, schedule: str, bottleneck: int, groups: int) -> Substitute | None:
        key = schedule, bottleneck, groups
        if key not in self.made:
            values = {"b": bottleneck} if bottleneck > 1 else {}
            values |= {"g": groups} if groups > 1 else {}
            try:
                after = self.program.apply(load_schedule(schedule, layer=_ALONE, **values))
                module = after.to_module().get_submodule(_ALONE)
            except IllegalTransform:
                self.made[key] = None
            else:
                added = parameter_count(module) - parameter_count(self.program.model)
                self.made[key] = Substitute(module, after.history, added)
        return self.made[key]


def _alone(
    module: nn.Module, shape: tuple[int, ...], known: dict[tuple[str, tuple[int, ...]], _Alone | None]
) -> _Alone | None:
    """The convolution alone; None where it cannot be imported. Equal ones are imported once."""
    key = repr(module), shape
    if key not in known:
        network = nn.Sequential(copy.deepcopy(module)).eval()
        dtype = next(module.parameters()).dtype
        try:
            program = import_model(network, (torch.zeros(shape, dtype=dtype),))
        except (ImportRefused, ArgumentError):
            known[key] = None
        else:
            extents = program.layers[0].extents
            common = math.gcd(extents.get("co") or 1, extents.get("ci") or 1)
            known[key] = _Alone(program, common, {})
    return known[key]


def _options(layers: Mapping[str, _Alone]) -> Iterator[Option]:
    """What all of a block's convolutions admit, each only once."""
    seen: set[tuple[tuple[str, int, int], ...]] = set()
    for name, schedule, bottleneck, groups in _kinds():
        values = {layer: _values(alone.channels, bottleneck, groups) for layer, alone in layers.items()}
        keys = tuple((schedule, *each) for each in values.values() if each is not None)
        if not keys or len(keys) < len(values) or keys in seen:
            continue
        seen.add(keys)
        made = {layer: layers[layer].substitute(*key) for layer, key in zip(values, keys, strict=True)}
        found = {layer: each for layer, each in made.items() if each is not None}
        if len(found) == len(made):
            yield Option(name, found)


_Groups = tuple[int | None, int | None]  # how many; or, the channels over how many


def _kinds() -> Iterator[tuple[str, str, int, _Groups]]:
    """Name, schedule, bottleneck and groups of each substitute."""
    for text, groups in _groupings("N"):
        yield f"G({text})", "grouped-pointwise", 1, groups
    for bottleneck in _BOTTLENECKS:
        yield f"B({bottleneck})", "bottleneck-block", bottleneck, (1, None)
    for text, groups in _groupings("M"):
        yield f"BG(2,{text})", "bottleneck-grouped", 2, groups


def _groupings(channels: str) -> Iterator[tuple[str, _Groups]]:
    for count in _GROUPS:
        yield str(count), (count, None)
    for share in _SHARES:
        yield channels if share == 1 else f"{channels}/{share}", (None, share)


def _values(channels: int, bottleneck: int, groups: _Groups) -> tuple[int, int] | None:
    """The bottleneck and the number of groups for so many channels; None where they do not divide these."""
    count, share = groups
    inside, rest = divmod(channels, bottleneck)
    found = count if share is None else inside // share
    if rest or found is None or found < 1 or inside % found or (share is not None and (inside % share or found < 2)):
        return None
    return bottleneck, found
