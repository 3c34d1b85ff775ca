"""PyTorch's rules for composite operations, as `run_decompositions` wants them, made once and kept.

For the time of a trace it gives each of some 600 composite operations (`aten.linear`, ...) two dozen entries in the
operation's table of kernels, one after the other, twice; and looks through the dispatcher once for each namespace.
That takes several times as long as to decompose a small network. Here the entries that an operation has had before are
put back at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._export import utils as export_utils
from torch._ops import OpOverload
from torch._subclasses import fake_impls
from torch.export import exported_program

from loopmorph.pipelines.ingress.decompositions import decomposition_table

_Kernels = dict[Any, Any]
_Rules = Mapping[OpOverload, Callable[..., Any]]

# Whether the dispatcher has been looked through, while this module decomposes.
_looked: ContextVar[list[bool] | None] = ContextVar("looked", default=None)


@dataclass(frozen=True)
class _Kept:
    """What a composite operation's tables hold during a trace.

    Attributes:
        rule: what was to become of the operation.
        before: its kernels before and after the trace.
        during: those during the trace.
        fake: how fake tensors compute it.
    """

    rule: Callable[..., Any]
    before: _Kernels
    during: _Kernels
    fake: Callable[..., Any]


_kept: dict[OpOverload, _Kept] = {}


def run_decompositions(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """`exported.run_decompositions` with `decomposition_table`."""
    _install()
    token = _looked.set([])
    try:
        return exported.run_decompositions(decomposition_table())
    finally:
        _looked.reset(token)


@cache
def _install() -> None:
    """Once in a process: the two functions pass by here, and do what they did when others call them."""
    override = exported_program._override_composite_implicit_decomp
    materialize = export_utils._materialize_cpp_cia_ops

    def overriding(rules: _Rules) -> contextlib.AbstractContextManager[None]:
        return override(rules) if _looked.get() is None else _overriding(rules, override)

    def materializing() -> None:
        looked = _looked.get()
        if not looked:  # what is done once holds until the end of the trace
            materialize()
        if looked is not None:
            looked.append(True)

    vars(exported_program)["_override_composite_implicit_decomp"] = overriding
    vars(export_utils)["_materialize_cpp_cia_ops"] = materializing


@contextlib.contextmanager
def _overriding(rules: _Rules, override: Callable[[_Rules], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """As `override`, which is asked for those operations alone whose entries are not known."""
    known = {op: _kept[op] for op, rule in rules.items() if _is_kept(op, rule)}
    others = {op: rule for op, rule in rules.items() if op not in known}
    before = {op: dict(op.py_kernels) for op in others if op not in fake_impls.op_implementations_dict}
    with override(others):
        for op, kernels in before.items():
            _kept[op] = _Kept(others[op], kernels, dict(op.py_kernels), fake_impls.op_implementations_dict[op])
        try:
            for op, kept in known.items():
                _replace(op, kept.during)
                fake_impls.op_implementations_dict[op] = kept.fake
            yield
        finally:
            for op, kept in known.items():
                _replace(op, kept.before)
                fake_impls.op_implementations_dict.pop(op, None)


def _is_kept(op: OpOverload, rule: Callable[..., Any]) -> bool:
    kept = _kept.get(op)
    same = kept is not None and kept.rule is rule and kept.before == op.py_kernels
    return same and op not in fake_impls.op_implementations_dict


def _replace(op: OpOverload, kernels: _Kernels) -> None:
    op.py_kernels.clear()
    op.py_kernels.update(kernels)
    op._dispatch_cache.clear()
