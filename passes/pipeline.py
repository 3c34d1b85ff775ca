"""Pass pipelines as text: loopmorph's passes and MLIR's own in one string.

    morph-split{layer=conv1 iter=ow factor=4},func.func(affine-simplify-structures),canonicalize

The grammar is in `loopmorph.passes.text.pipeline_text`. loopmorph's passes (and those of plug-ins) work on the whole
`builtin.module`, so they stand at the top or directly in a top-level `builtin.module(...)`; MLIR's passes stand
wherever MLIR allows them, and their options go to MLIR untouched.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes.base import Pass
from loopmorph.passes.diagnostics import illegal
from loopmorph.passes.errors import ArgumentError, one_line
from loopmorph.passes.registry import all_passes, did_you_mean, merge
from loopmorph.passes.text.pipeline_options import build_pass
from loopmorph.passes.text.pipeline_text import Syntax, complaint, parse_syntax

MODULE = "builtin.module"

# MLIR ends the process when one of these stands below the module, instead of reporting it.
_MODULE_ONLY = frozenset(
    {
        "gpu-lower-to-nvvm-pipeline",
        "gpu-lower-to-rocdl-pipeline",
        "gpu-lower-to-xevm-pipeline",
        "sparsifier",
        "tosa-to-linalg-pipeline",
    }
)
_BELOW_MODULE = "below the module"


@dataclass(frozen=True)
class UpstreamPass:
    """A pass (or named pipeline) registered in MLIR; `options` is the text between its braces."""

    name: str
    options: str = ""

    def __str__(self) -> str:
        return f"{self.name}{{{self.options}}}" if self.options else self.name


@dataclass(frozen=True)
class Nested:
    """Passes for one kind of operation: `func.func(cse,canonicalize)`."""

    anchor: str
    elements: tuple[Element, ...]

    def __str__(self) -> str:
        return f"{self.anchor}({_join(self.elements)})"


Element = Pass | UpstreamPass | Nested


@dataclass(frozen=True)
class Pipeline:
    """A sequence of passes on a `builtin.module`; `parse_pipeline(str(p)) == p`."""

    elements: tuple[Element, ...]

    def __str__(self) -> str:
        return _join(self.elements)

    def pass_manager(self, context: ir.Context) -> PassManager:
        """A pass manager that runs this pipeline, e.g. to switch timing or printing on before it runs.

        Raises:
            ArgumentError: MLIR refuses one of its own passes (only in pipelines that were not parsed).
        """
        manager = PassManager(MODULE, context=context)
        self.add_to(manager)
        return manager

    def add_to(self, manager: PassManager) -> None:
        """Adds the passes to somebody's pass manager, behind those that it has.

        An error of a pass leaves `manager.run` as what it is, an `ArgumentError` or an `IllegalTransform`; upstream's
        passes give an `ir.MLIRError`.

        Raises:
            ArgumentError: it is no pass manager of `builtin.module`, or as `pass_manager`.
        """
        if not isinstance(manager, PassManager):
            raise ArgumentError("manager", f"expected a PassManager of torch_mlir, got {type_name(manager)}")
        anchor = str(manager).partition("(")[0]
        if anchor != MODULE:
            raise ArgumentError("manager", f"expected a pass manager of {MODULE}, got one of {anchor}")
        for element in self._steps():
            _add(manager, element)

    def _steps(self) -> Iterator[Pass | UpstreamPass | Nested]:
        for element in self.elements:
            if isinstance(element, Nested) and element.anchor == MODULE:
                yield from element.elements
            else:
                yield element


def parse_pipeline(text: str, extra: Iterable[type[Pass]] = ()) -> Pipeline:
    """Reads a pipeline and checks every name and option in it.

    Args:
        text: the pipeline.
        extra: passes that it may name besides those of `all_passes`; no other pipeline knows of them.

    Raises:
        ArgumentError: the text is malformed, names something unknown, or puts a pass where it cannot stand; the
            message shows the line concerned with a caret under the culprit. An extra pass is none, or has a name that
            is taken.
    """
    if not isinstance(text, str):
        raise ArgumentError("pipeline", f"expected a text, got {type_name(text)}")
    known = _with_extra(tuple(extra))
    return Pipeline(tuple(_resolve(text, element, (), known) for element in parse_syntax(text)))


def run_pipeline(
    module: ir.Module | ir.Operation,
    pipeline: Pipeline | str,
    configure: Callable[[PassManager], None] | None = None,
) -> None:
    """Runs a pipeline on a module, in place. Handles to operations in the module dangle afterwards.

    Args:
        module: a `builtin.module`; after an error its contents are those that the failed pass left.
        pipeline: a pipeline or its text.
        configure: called with the pass manager before it runs.

    Raises:
        ArgumentError: the text is not a pipeline, one of loopmorph's passes refuses an option, or there is no module.
        IllegalTransform: the module is invalid, a pass refuses the program, or leaves it invalid.
    """
    resolved = pipeline if isinstance(pipeline, Pipeline) else parse_pipeline(pipeline)
    operation = module_operation(module)
    manager = resolved.pass_manager(operation.context)
    if configure is not None:
        configure(manager)
    try:
        manager.run(operation)
    except ir.MLIRError as error:
        raise illegal(error) from error


def module_operation(module: ir.Module | ir.Operation) -> ir.Operation:
    """The operation of a module that somebody hands in.

    Raises:
        ArgumentError: it is none, or one that has been erased; says what it is.
        IllegalTransform: it does not verify; the passes rely on that.
    """
    if not isinstance(module, ir.Module | ir.Operation | ir.OpView):
        raise ArgumentError("module", f"expected an ir.Module of torch_mlir, got {type_name(module)}")
    try:
        operation = module.operation
        name = operation.name
    except RuntimeError as error:  # what the bindings say of an operation that is gone
        raise ArgumentError("module", f"it is not there any more: {one_line(str(error))}") from error
    if name != MODULE:
        raise ArgumentError("module", f"expected a {MODULE}, got a {name}")
    try:
        operation.verify()
    except ir.MLIRError as error:
        raise illegal(error) from error
    return operation


def type_name(value: object) -> str:
    """The type of a value, for messages: `int`, `other_mlir.ir.Module`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _with_extra(extra: tuple[type[Pass], ...]) -> Mapping[str, type[Pass]]:
    known = all_passes()
    if not extra:
        return known
    return merge([*(("loopmorph or a plug-in", each) for each in known.values()), *(("extra", each) for each in extra)])


def _join(elements: Iterable[Element]) -> str:
    return ",".join(str(element) for element in elements)


def _add(manager: PassManager, element: Pass | UpstreamPass | Nested) -> None:
    if isinstance(element, Pass):
        # No op_name: MLIR ends the process when it differs from the manager's own.
        manager.add(_runner(element), name=element.name, argument=str(element))
        return
    try:
        manager.add(str(element))
    except ValueError as error:
        raise ArgumentError("pipeline", f"'{element}' is refused: {one_line(str(error))}") from error


def _runner(work: Pass) -> Callable[[ir.Operation, object], None]:
    def run(operation: ir.Operation, _pass: object) -> None:
        with operation.context, ir.Location.unknown():
            work.run(operation)

    return run


def _resolve(text: str, element: Syntax, anchors: tuple[str, ...], known: Mapping[str, type[Pass]]) -> Element:
    """`anchors` are the operations around the element, outermost first; empty at the top."""
    if element.children is not None:
        inner = (*anchors, element.name)
        if not element.children and inner != (MODULE,):
            raise complaint(text, element.offset, f"{element.name}() holds no passes")
        return Nested(element.name, tuple(_resolve(text, child, inner, known) for child in element.children))
    if element.name not in known:
        return _resolve_upstream(text, element, anchors, known)
    if anchors not in ((), (MODULE,)):
        message = f"{element.name} works on the whole module and cannot stand in {anchors[-1]}(...)"
        raise complaint(text, element.offset, message)
    return build_pass(known[element.name], text, element)


def _resolve_upstream(
    text: str, element: Syntax, anchors: tuple[str, ...], known: Mapping[str, type[Pass]]
) -> UpstreamPass:
    resolved = UpstreamPass(element.name, (element.options or "").strip())
    anchor = anchors[-1] if anchors else MODULE
    reason = _upstream_problem(str(resolved), element.name, anchor)
    if reason:
        raise complaint(text, element.offset, _explain(element.name, anchor, reason, known))
    return resolved


@functools.lru_cache(maxsize=1024)
def _upstream_problem(text: str, name: str, anchor: str) -> str:
    """Why MLIR refuses its pass `text` on the operation `anchor`; empty where it accepts it."""
    if name in _MODULE_ONLY and anchor != MODULE:
        return _BELOW_MODULE
    try:
        with ir.Context() as context:
            PassManager.parse(f"{anchor}({text})", context=context)
    except ValueError as error:
        return str(error)
    return ""


def _explain(name: str, anchor: str, reason: str, known: Iterable[str]) -> str:
    if reason == _BELOW_MODULE:
        return f"{name} works on the whole module and cannot stand in {anchor}(...)"
    if "does not refer to a registered pass" in reason:
        return f"unknown pass '{name}'{did_you_mean(name, [*known, *_COMMON_UPSTREAM])}"
    if restricted := re.search(r"restricted to '([\w.-]+)'", reason):
        return f"{name} does not work on {anchor}; write {restricted[1]}({name})"
    if option := re.search(r"no such option (\S+)", reason):
        return f"{name} has no option '{option[1]}'"
    return f"{name} is refused: {one_line(reason)}"


# MLIR cannot list its passes; these are offered as corrections of a misspelt name.
_COMMON_UPSTREAM = (
    "affine-loop-tile",
    "affine-loop-unroll",
    "affine-loop-unroll-jam",
    "affine-simplify-structures",
    "buffer-deallocation-pipeline",
    "canonicalize",
    "convert-arith-to-llvm",
    "convert-func-to-llvm",
    "convert-linalg-to-affine-loops",
    "convert-scf-to-cf",
    "cse",
    "expand-strided-metadata",
    "finalize-memref-to-llvm",
    "inline",
    "linalg-fuse-elementwise-ops",
    "lower-affine",
    "one-shot-bufferize",
    "reconcile-unrealized-casts",
    "symbol-dce",
    "transform-interpreter",
)
