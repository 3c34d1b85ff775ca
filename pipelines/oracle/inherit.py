"""Which of the old weights a rewritten network inherits, where its bottlenecks leave a choice.

"slice"        the head of each dimension (what a bottleneck takes by itself)
"mean"         the mean of the channels that are merged, and their sum where they are summed over; exact where the
               merged channels are equal
"salient"      the channels without which the outputs change most (see `loopmorph.pipelines.oracle.saliency`)
"least-squares" the channels from which what reads them can best be restored if its weights are fitted anew (see
               `loopmorph.pipelines.oracle.channel_choice`); to be followed by repair
"least-error"  that of the first three with which the outputs are nearest to the original's on a batch
"repair"       the channels of "least-squares", if that is wanted those of groups in the best order (see
               `loopmorph.pipelines.oracle.ordered`), and then the weights with which each layer is nearest to the
               original's on a batch (see `loopmorph.pipelines.oracle.repair`); for trained networks

Only bottlenecks choose. A group keeps the blocks on its diagonal (a mean over blocks that read other inputs means
nothing), a coarse grid and bands keep whole weights, a narrowed iterator what its step names; and of a reduction
iterator, whose input stays, and of a window "salient" and "least-squares" keep what "slice" does, so that addresses
stay as they are; but of the features of an attention's queries and keys, over which its scores sum, "least-squares"
keeps those without which the scores change most. Where what reads a dimension is not linear, "least-squares" keeps what
"salient" does.

The choice is written into the steps themselves (`keep=`, `inherit=` of `morph-bottleneck`), for a network-wide
dimension the same in every layer. The nests do not depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch

from loopmorph.passes.analysis.coupling.keep_set import KeepSet
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.coupling.segments import shares
from loopmorph.passes.analysis.dimension_names import find_loop
from loopmorph.passes.analysis.roles import is_grid, is_reduction
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import Step
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.kept_channels import KnownLosses, Losses, losses_by_dimension, present_losses
from loopmorph.pipelines.oracle.ordered import with_channel_orders
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.oracle.repair.repair_work import LayerRepair
from loopmorph.pipelines.oracle.saliency import saliency
from loopmorph.pipelines.support.progress import Progress, silent

LEAST_ERROR = "least-error"
REPAIR = "repair"
CHOICES = ("slice", "mean", "salient")
LEAST_SQUARES = "least-squares"
INHERITANCES = (*CHOICES, LEAST_SQUARES, LEAST_ERROR, REPAIR)

_Choose = Callable[[Network, Bottleneck], Bottleneck]


NetworkT = TypeVar("NetworkT", bound=Network)


@dataclass(frozen=True)
class Inherited(Generic[NetworkT]):
    """A rewritten network whose weights are inherited in one of the ways.

    Attributes:
        program: the network; its steps say what is inherited.
        how: "slice", "mean", "salient", "least-squares" or "repair".
        errors: each way that was tried -> the relative error of the outputs on the batch (see `inherited_error`).
        layers: what repair did to each layer.
    """

    program: NetworkT
    how: str
    errors: Mapping[str, float]
    layers: tuple[LayerRepair, ...] = ()


def check_inheritance(how: str) -> None:
    """Raises:
    ArgumentError: not one of `INHERITANCES`.
    """
    if how not in INHERITANCES:
        raise ArgumentError("inherit", f"expected {', '.join(INHERITANCES[:-1])} or {INHERITANCES[-1]}, got {how!r}")


def inherit(
    original: NetworkT,
    program: NetworkT,
    how: str,
    inputs: Sequence[torch.Tensor],
    tell: Progress = silent,
    *,
    fitted_to: Sequence[torch.Tensor] | None = None,
    orders: bool = False,
    known: KnownLosses | None = None,
) -> Inherited[NetworkT]:
    """Decides anew what the bottlenecks of a rewritten network inherit.

    Args:
        original: the network as imported.
        program: what its steps make of that.
        how: one of `INHERITANCES`.
        inputs: the network's inputs, as a batch of any size.
        tell: called as repair goes on.
        fitted_to: the inputs that "repair" fits the weights to; `inputs` by default, better more.
        orders: whether "repair" orders channels before they are grouped (see `loopmorph.pipelines.oracle.ordered`).
        known: what "repair" found of the same original and `fitted_to` before (see `losses_by_dimension`), for it to
            use and add to.

    Raises:
        ArgumentError: another `how`.
        IllegalTransform: the recorded steps do not lead from `original` to `program` (other passes were applied as
            well), or the network's own code cannot run with the new shapes.
    """
    check_inheritance(how)
    if how == REPAIR:
        return _repaired(original, program, inputs, tell, inputs if fitted_to is None else fitted_to, orders, known)
    ways = CHOICES if how == LEAST_ERROR else (how,)
    tried = {way: _redone(original, program, way, inputs, tell) for way in ways}
    errors: dict[tuple[str, ...], float] = {}
    for each in tried.values():
        if each.steps not in errors:
            errors[each.steps] = inherited_error(original, each, *inputs)
    found = {way: errors[each.steps] for way, each in tried.items()}
    best = min(ways, key=lambda way: math.inf if math.isnan(found[way]) else found[way])
    return Inherited(tried[best], best, found)


def _repaired(
    original: NetworkT,
    program: NetworkT,
    inputs: Sequence[torch.Tensor],
    tell: Progress,
    fitted_to: Sequence[torch.Tensor],
    orders: bool,
    known: KnownLosses | None,
) -> Inherited[NetworkT]:
    """What was inherited until now, and after repair."""
    chosen = _redone(original, program, LEAST_SQUARES, fitted_to, tell, known)
    if orders:
        chosen = with_channel_orders(original, chosen, fitted_to, tell).program
    found = repair(original, chosen, [tuple(fitted_to)], progress=tell)
    errors = {LEAST_SQUARES: inherited_error(original, chosen, *inputs)}
    errors[REPAIR] = inherited_error(original, found.program, *inputs)
    return Inherited(found.program, REPAIR, errors, found.layers)


def plain_steps(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps without what they say of the weights."""
    return tuple(_plain(step) if isinstance(step, Bottleneck) else step for step in steps)


def _require_recorded(redone: Network, program: Network) -> None:
    if redone.layer_texts != program.layer_texts:
        reason = "passes that leave no record changed it as well; choose what is inherited before them"
        raise IllegalTransform("program", f"its recorded steps do not lead to it: {reason}")


def _redone(
    original: NetworkT,
    program: Network,
    way: str,
    inputs: Sequence[torch.Tensor],
    tell: Progress = silent,
    known: KnownLosses | None = None,
) -> NetworkT:
    """The steps of the program, applied to the original again, each bottleneck as `way` has it."""
    choose = _choice(original, program, way, inputs, tell, known)
    current, pending = original, list[Step]()
    for step in program.history:
        if isinstance(step, Bottleneck):
            current, pending = current.after(pending), []
            step = choose(current, _plain(step))
        pending.append(step)
    redone = current.after(pending)
    _require_recorded(redone, program)
    return redone


def _choice(
    original: Network,
    program: Network,
    way: str,
    inputs: Sequence[torch.Tensor],
    tell: Progress,
    known: KnownLosses | None,
) -> _Choose:
    if way == "mean":
        return _with_mean
    if way == "salient":
        return lambda current, step: _with_salient(current, step, inputs)
    if way == LEAST_SQUARES:
        steps = [step for step in program.history if isinstance(step, Bottleneck)]
        losses = losses_by_dimension(original, steps, inputs, tell, known)
        return lambda current, step: _with_losses(current, step, losses, inputs)
    return lambda current, step: step


def _with_mean(program: Network, step: Bottleneck) -> Bottleneck:
    with program.module.context:
        if is_grid(*find_loop(program.module.operation, step.layer, step.iter)):
            return step
    merged = replace(step, inherit="mean")
    return merged if _is_legal(program, merged) else step


def _with_salient(program: Network, step: Bottleneck, inputs: Sequence[torch.Tensor]) -> Bottleneck:
    if not _picks_channels(program, step):
        return step
    try:
        return _with_best(program, step, saliency(program, step, inputs))
    except IllegalTransform:  # a parameter that is used both along the dimension and across it has no one reader
        return step


def _with_losses(program: Network, step: Bottleneck, losses: Losses, inputs: Sequence[torch.Tensor]) -> Bottleneck:
    scores = present_losses(program, step, losses)
    return _with_salient(program, step, inputs) if scores is None else _with_best(program, step, scores)


def _picks_channels(program: Network, step: Bottleneck) -> bool:
    with program.module.context:
        nest, loop = find_loop(program.module.operation, step.layer, step.iter)
        return not is_reduction(nest, loop.position) and not is_grid(nest, loop)


def _with_best(program: Network, step: Bottleneck, scores: np.ndarray) -> Bottleneck:
    """The step with the best channels that it can keep."""
    with program.module.context:
        nest, loop = find_loop(program.module.operation, step.layer, step.iter)
        head = shares(ProgramAccesses(program.module.operation), nest, loop, step.factor)
    for keep in _keeps(head, step.factor, scores):
        if keep == tuple(head.indices.tolist()):
            return step
        chosen = replace(step, keep=keep)
        if _is_legal(program, chosen):
            return chosen
    return step


def _keeps(head: KeepSet, factor: int, scores: np.ndarray) -> Iterator[tuple[int, ...]]:
    """What may be kept, the best first: the best indices of each segment; those that are best in all segments of one
    length together, for where they are tied to each other (groups); one of the parts, for where parts are (blocks).
    """
    segments = [(begin, begin + (end - begin) * factor) for begin, end in head.intervals]
    yield _kept((begin, _best(scores[begin:end], (end - begin) // factor)) for begin, end in segments)
    total: dict[int, np.ndarray] = {}
    for begin, end in segments:
        total[end - begin] = total.get(end - begin, np.zeros(end - begin)) + scores[begin:end]
    yield _kept((begin, _best(total[end - begin], (end - begin) // factor)) for begin, end in segments)
    parts = [_part(segments, factor, k) for k in range(factor)]
    yield max(parts, key=lambda part: float(scores[list(part)].sum()))


def _part(segments: Sequence[tuple[int, int]], factor: int, number: int) -> tuple[int, ...]:
    sizes = [(begin, (end - begin) // factor) for begin, end in segments]
    return _kept((begin, range(number * size, (number + 1) * size)) for begin, size in sizes)


def _kept(segments: Iterable[tuple[int, Sequence[int]]]) -> tuple[int, ...]:
    return tuple(begin + index for begin, indices in segments for index in indices)


def _best(scores: np.ndarray, count: int) -> list[int]:
    """The `count` indices of the greatest scores, ascending; of equal ones the first."""
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())


def _is_legal(program: Network, step: Bottleneck) -> bool:
    operation = program.module.operation
    try:
        with operation.context:
            step.analyze(operation)
    except IllegalTransform:
        return False
    return True


def _plain(step: Bottleneck) -> Bottleneck:
    return replace(step, keep=None, inherit="slice")
