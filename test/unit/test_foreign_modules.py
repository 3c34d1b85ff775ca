"""MLIR that nobody here imported: listed, transformed, compiled and right, or refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from foreign_modules import MODULES, ForeignModule, values
from foreign_references import CHANGED, REFERENCES

from loopmorph.passes.errors import LoopmorphError
from loopmorph.pipelines.codegen.from_mlir import compile_mlir

INDICES = {"torch_mlir/embedding": [np.array([[0, 3, 4], [2, 2, 1]])]}
by_name = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


@by_name
def test_the_table_of_nests(module: ForeignModule) -> None:
    if module.lines("nest"):
        assert module.table() == module.lines("nest")
    else:
        with pytest.raises(LoopmorphError, match=module.refused):
            module.table()


@by_name
def test_it_computes_what_it_should_or_is_refused(module: ForeignModule) -> None:
    if not module.refused:
        run(module)
        return
    with pytest.raises(LoopmorphError, match=module.refused) as caught:
        compile_mlir(module.prepared, pipeline=module.pipeline, parameters=module.weights)
    assert "\n" not in str(caught.value)


def run(module: ForeignModule) -> None:
    """Compiles a module after its pipeline, with the weights that it names, and compares what it computes."""
    weights = module.weights
    compiled = compile_mlir(module.prepared, pipeline=module.pipeline, parameters=weights)
    keys = iter(number for number in itertools.count() if number not in weights)
    inputs = sorted((int(a.key), a) for a in compiled.native.run.arguments if a.role == "input")
    data = {next(keys): argument for _, argument in inputs}
    given = {**weights, **{number: values(a.shape, number, a.dtype) for number, a in data.items()}}
    arguments = INDICES.get(module.name) or [given[number] for number in sorted(given)]
    outputs = compiled(*(array for number, array in enumerate(arguments) if number not in weights))
    if module.lines("expect"):
        expected: Any = np.array(module.lines("expect")[0].split(), float).reshape(outputs[0].shape)
    else:
        expected = (CHANGED.get(module.name) or REFERENCES[module.name])(*arguments)
    for output, wanted in zip(outputs, expected if isinstance(expected, list) else [expected], strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)
