"""What stands in a nest as text: for messages, in the names of its iterators; and to compare layers by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.nest import Access, Nest, function_roots, functions

# In the text of a function: a nest, from its first line to the brace below that; a constant; any value.
_NEST = re.compile(r"^  (?:%\S+ = )?affine\.for .*?^  \}.*?$", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^  (%\S+) = arith\.constant (.*)$", re.MULTILINE)
_VALUE = re.compile(r"%[\w.$-]+")
_NAME = re.compile(rf'(?:{re.escape(marks.LAYER)}|{re.escape(marks.NODE)}) = "(?:[^"\\]|\\.)*"')


def index_text(expr: ir.AffineExpr, names: Sequence[str]) -> str:
    """An index, dimension d spelt `names[d]`: `oh * 2 + kh`."""
    return re.sub(r"d(\d+)", lambda match: names[int(match[1])], str(expr))


def access_text(nest: Nest, access: Access, state: ir.AsmState | None = None) -> str:
    """An access: `store %arg0[i, j - 1]`; with the numbering `state` of the function, which saves to make it anew."""
    indices = ", ".join(index_text(expr, nest.iterators) for expr in access.exprs)
    name = access.memref.get_name() if state is None else access.memref.get_name(state)
    return f"{access.kind} {name}[{indices}]"


def layer_texts(module: ir.Operation, *, anonymous: bool = False) -> dict[str, str]:
    """Layer -> the text of its nests, in program order; where texts are equal, the nests compute the same.

    Values have numbers in the order in which the layer's nests name them, so that nothing tells of what stands before
    (MLIR's own numbers go on from there); constants are what they are, and parameters have their names.

    Args:
        module: what holds the nests; it is taken for granted that it verifies.
        anonymous: whether to leave out the names of layers, nodes and parameters, so that equal layers have one text.
    """
    found: dict[str, list[str]] = {}
    for function in functions(module):
        for layer, text in _texts_in(function, anonymous).items():
            found.setdefault(layer, []).append(text)
    return {layer: "\n".join(texts) for layer, texts in found.items()}


def _texts_in(function: func.FuncOp, anonymous: bool) -> dict[str, str]:
    # One text of all takes little to make, one for each nest long.
    whole = function.operation.get_asm(use_local_scope=True, assume_verified=True)
    known = dict(_CONSTANT.findall(whole)) | ({} if anonymous else _parameters(function))
    found: dict[str, list[str]] = {}
    for root, text in zip(function_roots(function), _NEST.findall(whole), strict=True):
        found.setdefault(marks.get_text(root, marks.LAYER), []).append(_NAME.sub("", text) if anonymous else text)
    return {layer: _numbered("\n".join(texts), known) for layer, texts in found.items()}


def _parameters(function: func.FuncOp) -> dict[str, str]:
    """The names of arguments, as they stand in the function's text -> those of the parameters passed there."""
    arguments = enumerate(function.entry_block.arguments)
    return {f"%arg{k}": name for k, argument in arguments if (name := marks.parameter_name(argument)) is not None}


def _numbered(text: str, known: Mapping[str, str]) -> str:
    names, numbers = dict(known), itertools.count()

    def name(match: re.Match[str]) -> str:
        value = match.group()
        if value not in names:
            names[value] = f"%{next(numbers)}"
        return names[value]

    return _VALUE.sub(name, text)
