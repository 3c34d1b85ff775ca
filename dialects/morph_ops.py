"""The operations of the `morph` dialect, made from the registered transformations, and their set-up in a context."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Iterable
from typing import Any

from torch_mlir import ir
from torch_mlir.dialects import ext, transform
from torch_mlir.dialects.transform import DiagnosedSilenceableFailure

from loopmorph.dialects.morph_attributes import build_step
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.pipeline import type_name
from loopmorph.passes.registry import all_passes
from loopmorph.passes.transformation import Transformation

NAMESPACE = "morph"
_NEEDED = ("irdl", "transform")  # what the operations are declared with, and what their types are of
_LOADING = threading.RLock()  # the bindings note in the dialect class what they are just loading

_IRDL_TYPES: dict[Any, Any] = {int: ir.IntegerAttr, str: ir.StringAttr}
_OWN_FIELDS = ("target", "changed", "nest")


def operation_name(pass_name: str) -> str:
    """`morph-unroll-jam` -> `morph.unroll_jam`; `test-rename` -> `morph.test_rename`."""
    return f"{NAMESPACE}.{pass_name.removeprefix(NAMESPACE + '-').replace('-', '_')}"


@functools.cache
def transformations() -> dict[str, type[Transformation[Any]]]:
    """Operation name -> the transformation that it applies.

    Raises:
        ArgumentError: two passes lead to one operation name, or a plug-in is broken.
    """
    found: dict[str, type[Transformation[Any]]] = {}
    for name, cls in all_passes().items():
        if not issubclass(cls, Transformation):
            continue
        operation = operation_name(name)
        if operation in found:
            raise ArgumentError("passes", f"'{found[operation].name}' and '{name}' both name the operation {operation}")
        found[operation] = cls
    return found


@functools.cache
def dialect() -> type[ext.Dialect]:
    """The dialect class, with one operation class for each registered transformation."""
    made = types.new_class("Morph", (ext.Dialect,), {"name": NAMESPACE})
    for name, cls in transformations().items():
        _make_operation(made, name, cls)
    return made


def load(context: ir.Context) -> None:
    """Makes the dialect known in `context`; does nothing where it is known already.

    The dialects `irdl` and `transform` are loaded as well; nothing else of the context changes. Contexts may be set up
    in several threads at once.

    Raises:
        ArgumentError: it is no context of `torch_mlir`; it has another dialect of this name, or none of `_NEEDED`; a
            plug-in is broken (see `loopmorph.passes.registry.all_passes`).
    """
    if not isinstance(context, ir.Context):
        raise ArgumentError("context", f"expected an ir.Context of torch_mlir, got {type_name(context)}")
    with _LOADING:
        made = dialect()
        with context:
            if context.is_dialect_loaded(NAMESPACE):
                _require_ours(context, made)
                return
            _load_needed(context)
            made.load()
            made._mlir_module = None  # it would keep the context alive
            for operation in made.operations:
                # The effects are not optional: the interpreter crashes on an operation without them.
                _Effects.attach(operation.OPERATION_NAME)
                _Apply.attach(operation.OPERATION_NAME)


def _require_ours(context: ir.Context, made: type[ext.Dialect]) -> None:
    for operation in made.operations:
        name = operation.OPERATION_NAME
        if not context.is_registered_operation(name):
            reason = f"it has a dialect '{NAMESPACE}' without the operation {name}: that of another project, or one"
            raise ArgumentError("context", f"{reason} that was loaded before a plug-in came; use a new context")


def _load_needed(context: ir.Context) -> None:
    for name in _NEEDED:
        try:
            _ = context.dialects[name]
        except IndexError as error:
            raise ArgumentError("context", f"it cannot load the dialect '{name}' of MLIR") from error


def _make_operation(made: type[ext.Dialect], name: str, cls: type[Transformation[Any]]) -> None:
    """Declares the operation; required options become declared attributes, optional ones are read when present."""
    handle = transform.AnyOpType
    annotations: dict[str, Any] = {
        "target": ext.Operand[handle],
        **{option: _IRDL_TYPES.get(cls.option_types()[option], Any) for option in _declarable(cls.required_options())},
        "changed": ext.Result[handle[()]],
        "nest": ext.Result[handle[()]],
    }
    body = {
        "__doc__": cls.__doc__,
        "__annotations__": annotations,
        "changed": ext.infer_result(),
        "nest": ext.infer_result(),
        "verify_invariants": _verify,
    }
    short = name.removeprefix(NAMESPACE + ".")
    types.new_class(f"{cls.__name__}Op", (made.Operation,), {"name": short}, lambda space: space.update(body))


def _declarable(options: Iterable[str]) -> list[str]:
    """Without the names that would hide a member of the operation class; `_verify` checks all of them anyway."""
    return [option for option in options if option not in _OWN_FIELDS and not hasattr(ir.OpView, option)]


def step_of(operation: ir.OpView) -> Transformation[Any]:
    """The transformation that a `morph` operation stands for.

    Raises:
        ArgumentError: an attribute that it does not take.
    """
    attributes = operation.operation.attributes
    return build_step(transformations()[operation.operation.name], {name: attributes[name] for name in attributes})


def _verify(self: ir.OpView) -> bool:
    try:
        step_of(self)
    except ArgumentError as error:
        self.operation.location.emit_error(f"'{self.operation.name}' attribute '{error.argument}': {error.message}")
        return False
    return True


class _Apply(transform.TransformOpInterface):
    """What the interpreter does at a `morph` operation."""

    @staticmethod
    def apply(op: ir.OpView, _rewriter: Any, results: Any, state: Any) -> DiagnosedSilenceableFailure:
        payload = list(state.get_payload_ops(op.operands[0]))
        names = [target.operation.name for target in payload]
        if names != ["builtin.module"]:
            got = ", ".join(names) or "nothing"
            raise ArgumentError("schedule", f"{op.operation.name} expects a handle to one builtin.module, got {got}")
        nest = step_of(op).apply(payload[0].operation)
        results.set_ops(op.results[0], payload)
        results.set_ops(op.results[1], [nest])
        return DiagnosedSilenceableFailure.Success

    @staticmethod
    def allow_repeated_handle_operands(_op: ir.OpView) -> bool:
        return False


class _Effects(ir.MemoryEffectsOpInterface):
    """The operand is consumed: every handle into the module that was taken before is stale afterwards."""

    @staticmethod
    def get_effects(op: ir.OpView, effects: Any) -> None:
        transform.consumes_handle(op.op_operands, effects)
        transform.produces_handle(op.results, effects)
        transform.modifies_payload(effects)
