"""What stands in a nest as text: for messages, in the names of its iterators; and to compare nests by."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from torch_mlir import ir

from loopmorph.passes.nest import Access, Nest

_VALUE = re.compile(r"%[\w.$-]+")


def index_text(expr: ir.AffineExpr, names: Sequence[str]) -> str:
    """An index, dimension d spelt `names[d]`: `oh * 2 + kh`."""
    return re.sub(r"d(\d+)", lambda match: names[int(match[1])], str(expr))


def access_text(nest: Nest, access: Access) -> str:
    """An access: `store %arg0[i, j - 1]`."""
    indices = ", ".join(index_text(expr, nest.iterators) for expr in access.exprs)
    return f"{access.kind} {access.memref.get_name()}[{indices}]"


def nests_text(nests: Iterable[Nest]) -> str:
    """The text of some nests, whose values are numbered in the order in which they appear in it.

    MLIR's own numbers of values go on from what stands before, so that they would tell of the rest of the program.
    """
    texts = (nest.root.operation.get_asm(use_local_scope=True, assume_verified=True) for nest in nests)
    names: dict[str, str] = {}
    numbers = itertools.count()

    def number(match: re.Match[str]) -> str:
        return names.get(match[0]) or names.setdefault(match[0], f"%{next(numbers)}")

    return _VALUE.sub(number, "\n".join(texts))  # passes verify
