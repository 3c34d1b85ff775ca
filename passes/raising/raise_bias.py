"""Raising start values: whether a layer's helping nests add a bias to each channel of its result, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loopmorph.passes.raising.access_blocks import AccessBlock, access_block, union
from loopmorph.passes.raising.nest_recipe import Constant, Load, Recipe, Statement, Value, summands

NO_PARAMETER = -1


def raise_bias(recipe: Recipe, rest: Sequence[Statement], result: int, output: int) -> str | None:
    """The name of the bias, "" for none; None where the helping nests do anything else to the result."""
    start = [s for s in rest if s.target.buffer == result]
    after = [s for s in rest if s.target.buffer == output] if output != result else []
    initial = added(recipe, start, result, None)
    final = added(recipe, after, output, result) if output != result else ""
    touched = {s.target.buffer for s in rest} - {result, output}
    padded = {s.target.buffer for s in rest if s.role in ("pad", "init", "copy")}
    if initial is None or final is None or (initial and final) or not touched <= padded:
        return None
    return initial or final


def added(recipe: Recipe, statements: Sequence[Statement], target: int, source: int | None) -> str | None:
    """The parameter that is stored to every element of `target`, added to that of `source` if one is given."""
    if not statements:
        return None
    size = math.prod(recipe.buffers[target].shape)
    parameters = {_single_parameter(recipe, s, source) for s in statements}
    if len(parameters) != 1:
        return None
    (parameter,) = parameters
    if parameter is None:
        return None
    boxes = [_element_box(recipe, s, parameter, source) for s in statements]
    joined = union(b for b in boxes if b is not None) if None not in boxes else None
    if joined is None or any(joined.base):
        return None
    if parameter == NO_PARAMETER:
        whole = (((1,) if source is None else (1, 1), size),)
        return "" if joined.generators == (whole if size > 1 else ()) else None
    channels = recipe.buffers[parameter].shape
    if len(channels) != 1 or not _is_per_channel(joined, channels[0], size, source is not None):
        return None
    return recipe.buffers[parameter].name


def _single_parameter(recipe: Recipe, statement: Statement, source: int | None) -> int | None:
    """The number of the only parameter that the value loads, NO_PARAMETER for a plain zero; None for any other."""
    terms: list[Value] = summands(statement.value)
    if source is not None:
        loaded = [t for t in terms if isinstance(t, Load) and t.buffer == source]
        if len(loaded) != 1:
            return None
        terms.remove(loaded[0])
    terms = [t for t in terms if t != Constant(0.0)]
    if not terms:
        return NO_PARAMETER
    if len(terms) == 1 and isinstance(terms[0], Load) and recipe.buffers[terms[0].buffer].kind == "parameter":
        return terms[0].buffer
    return None


def _element_box(recipe: Recipe, statement: Statement, parameter: int, source: int | None) -> AccessBlock | None:
    parts = [statement.target.address(recipe.buffers)]
    for buffer in (source, parameter if parameter != NO_PARAMETER else None):
        if buffer is not None:
            (load,) = (t for t in summands(statement.value) if isinstance(t, Load) and t.buffer == buffer)
            parts.append(load.address(recipe.buffers))
    return access_block(parts, statement.extent_of)


def _is_per_channel(joined: AccessBlock, channels: int, size: int, has_source: bool) -> bool:
    """Whether element k of the parameter goes to block k, periodically; and, if given, each source to its own place."""
    if has_source and any(v[0] != v[1] for v, _ in joined.generators):
        return False
    by_bias = [(v[0], n) for v, n in joined.generators if v[-1] == 1]
    plain = [(v[0], n) for v, n in joined.generators if v[-1] == 0]
    if len(by_bias) + len(plain) != len(joined.generators) or len(by_bias) > 1 or (channels > 1) != bool(by_bias):
        return False
    block = by_bias[0][0] if by_bias else 1
    if by_bias and by_bias[0][1] != channels:
        return False
    expected = {(1, block), (block * channels, size // (block * channels))} if by_bias else {(1, size)}
    return {(1, 1), *plain} == {(1, 1)} | {e for e in expected if e[1] != 1}
