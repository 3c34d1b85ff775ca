"""What nobody sees: chains and diamonds of values that lead nowhere, and to a function's argument."""

from __future__ import annotations

import pytest
from torch_mlir import ir

from loopmorph.passes.analysis.unseen import enters_values, is_unseen, seen_uses
from loopmorph.passes.nest import nests

# Each value is made of the one before it, twice: there are 2^60 ways from the index to the last of them.
DOUBLED = "\n".join(f"%d{k + 1} = arith.addi %d{k}, %d{k} : index" for k in range(60))


def module(stored_to: str) -> ir.Module:
    return ir.Module.parse(
        f"""func.func @main(%out: memref<4xindex>, %data: memref<4xf32>) {{
          %places = memref.alloc() : memref<4xindex>
          affine.for %i = 0 to 4 {{
            %x = affine.load %data[%i] : memref<4xf32>
            affine.store %x, %data[%i] : memref<4xf32>
            %d0 = arith.addi %i, %i : index
            {DOUBLED}
            affine.store %d60, %{stored_to}[%i] : memref<4xindex>
            %again = affine.load %{stored_to}[%i] : memref<4xindex>
            affine.store %again, %{stored_to}[%i] : memref<4xindex>
          }}
          return
        }}""",
        ir.Context(),
    )


@pytest.mark.parametrize(("stored_to", "seen"), [("places", False), ("out", True)])
def test_an_index_is_seen_where_it_reaches_an_argument(stored_to: str, seen: bool) -> None:
    parsed = module(stored_to)
    with parsed.context:
        (nest,) = nests(parsed.operation)
        (loop,) = nest.loops
        written = {access.memref for access in nest.stores}
        data = parsed.body.operations[0].arguments[1]
        index = loop.op.induction_variable
        assert enters_values(index) is seen
        assert bool(seen_uses(index)) is seen
        assert [is_unseen(memref) for memref in written - {data}] == [not seen]
        assert not is_unseen(data)
