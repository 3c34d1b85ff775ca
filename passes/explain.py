"""A refusal with the nest that it is about, the culprit lines marked; as TVM's schedule errors show theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch_mlir import ir
from torch_mlir.dialects import affine

from loopmorph.passes import marks
from loopmorph.passes.nest import Loop, Nest, nest_roots, view_nest
from loopmorph.passes.nest_text import access_text

_MARK, _PLAIN, _INDENT = "> ", "  ", "  "
_MOST_NESTS = 3
_QUOTED = re.compile(r"'([^']*)'")


def explain(module: ir.Operation, layer: str, message: str) -> str:
    """The nests that a message is about, as text; the lines that it names are marked by `>`.

        layer 'conv1' (main)
          for n < 1
            for oh < 8
        >     for ow < 8
        >       load %arg0[oh, ow + 1]
                store %arg0[oh + 1, ow]

    Args:
        module: the program, as it was when a transformation was refused.
        layer: the layer that the transformation was for.
        message: why it was refused. What it quotes ('ow', 'conv2') or spells out (`load %arg0[oh, ow + 1]`) is marked.
    """
    named = {layer, *_QUOTED.findall(message)}
    with module.context:
        about = [view_nest(root) for root in nest_roots(module) if marks.get_text(root, marks.LAYER) in named]
    mains = [nest for nest in about if nest.role == marks.MAIN] or about
    mains.sort(key=lambda nest: nest.layer != layer)
    return "\n".join(_nest_text(nest, message) for nest in mains[:_MOST_NESTS])


def _nest_text(nest: Nest, message: str) -> str:
    quoted = set(_QUOTED.findall(message))
    lines = [_PLAIN + f"{nest.label} ({nest.role})"]
    for depth, text, is_culprit in _lines(nest, nest.loops[0], message, quoted):
        lines.append((_MARK if is_culprit else _PLAIN) + _INDENT * (depth + 1) + text)
    return "\n".join(lines)


def _lines(nest: Nest, loop: Loop, message: str, quoted: set[str]) -> Iterator[tuple[int, str, bool]]:
    """Depth, text and whether the message names it, of a loop and all that it holds."""
    extent = "?" if loop.extent is None else str(loop.extent)
    yield loop.depth, f"for {loop.iterator} < {extent}", loop.iterator in quoted
    by_op = {each.op.operation: each for each in nest.loops}
    accesses = {access.op: access for access in nest.accesses}
    for op in loop.op.body.operations:
        operation = op.operation
        if isinstance(op, affine.AffineForOp):
            yield from _lines(nest, by_op[operation], message, quoted)
        elif operation in accesses:
            text = access_text(nest, accesses[operation])
            yield loop.depth + 1, text, text in message
        elif operation.name != "affine.yield":
            yield loop.depth + 1, operation.name, operation.name in message
