"""How messages spell what stands in a nest, in the names of its iterators."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes.nest import Access, Nest


def index_text(expr: ir.AffineExpr, names: Sequence[str]) -> str:
    """An index, dimension d spelt `names[d]`: `oh * 2 + kh`."""
    return re.sub(r"d(\d+)", lambda match: names[int(match[1])], str(expr))


def access_text(nest: Nest, access: Access) -> str:
    """An access: `store %arg0[i, j - 1]`."""
    indices = ", ".join(index_text(expr, nest.iterators) for expr in access.exprs)
    return f"{access.kind} {access.memref.get_name()}[{indices}]"
