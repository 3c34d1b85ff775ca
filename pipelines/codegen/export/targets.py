"""The processors that one export is for, the best first, and the code for all of them as one module."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import resolve_target
from loopmorph.passes.target.instructions import required_features
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.export.entry_points import CodeNames, is_defined, symbol_name
from loopmorph.pipelines.codegen.lowered import Lowered


def read_targets(given: Target | str | Sequence[Target | str]) -> tuple[Target, ...]:
    """The targets that an argument names, separated by commas where it is text.

    Returns:
        Them in the order in which a library tries them: by the width of their vectors, then by what they ask of a
        processor, then as given.

    Raises:
        ArgumentError: a text that names no target; targets of different instruction sets; one that no processor would
            ever run, since another one asks for the same.
    """
    words = [given] if isinstance(given, Target) else given.split(",") if isinstance(given, str) else list(given)
    if "" in (each.strip() for each in words if isinstance(each, str)):
        raise ArgumentError("target", f"expected names separated by commas, got '{given}'")
    targets = [resolve_target(each.strip() if isinstance(each, str) else each) for each in words]
    if not targets:
        raise ArgumentError("target", "expected at least one target")
    first = targets[0]
    for position, each in enumerate(targets):
        if each.arch != first.arch:
            raise ArgumentError("target", f"one library is for one instruction set; got {first.arch} and {each.arch}")
        for other in targets[:position]:
            if required_features(each) == required_features(other):
                reason = f"'{each}' would never be chosen, since '{other}' asks for the same instructions"
                raise ArgumentError("target", reason)
    return tuple(sorted(targets, key=lambda each: (-each.lanes, -len(required_features(each)))))


def joined(parts: Sequence[tuple[Lowered, CodeNames]]) -> Lowered:
    """The code for several targets in one module, the first one's; what is private to each part gets its prefix.

    Args:
        parts: each with its entry points (see `add_entry_points`), all in one context.
    """
    (first, _), *others = parts
    if not others:
        return first
    for lowered, names in parts:
        _rename(lowered.module, names)
    with first.module.context, ir.Location.unknown():
        known = {symbol_name(op) for op in first.module.body.operations}
        for lowered, _ in others:
            for op in lowered.module.body.operations:
                if symbol_name(op) not in known:
                    known.add(symbol_name(op))
                    first.module.body.append(op.operation.clone())
    return first


def _rename(module: ir.Module, names: CodeNames) -> None:
    """Gives what a module defines, and does not show, names that other parts do not have."""
    with module.context:
        for op in list(module.body.operations):
            old = symbol_name(op)
            if is_defined(op) and not old.startswith(names.prefix):
                new = f"{names.prefix}.{old}"  # without the dot it would be that of an entry point
                ir.SymbolTable.replace_all_symbol_uses(old, new, module.operation)
                ir.SymbolTable.set_symbol_name(op.operation, new)
