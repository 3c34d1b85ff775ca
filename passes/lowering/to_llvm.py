"""From affine nests to the LLVM dialect."""

from __future__ import annotations

import re

from torch_mlir import ir
from torch_mlir.passmanager import PassManager

from loopmorph.passes import marks
from loopmorph.passes.analysis.memory.in_bounds import require_in_bounds
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import set_function
from loopmorph.passes.errors import CompilationFailed
from loopmorph.passes.layout.align_groups import AlignGroups
from loopmorph.passes.layout.blocked_layout import BlockedLayout
from loopmorph.passes.layout.contiguous_innermost import ContiguousInnermost
from loopmorph.passes.layout.drop_empty_loops import DropEmptyLoops
from loopmorph.passes.layout.drop_unit_loops import DropUnitLoops
from loopmorph.passes.layout.drop_unread_results import DropUnreadResults
from loopmorph.passes.layout.forward_copies import ForwardCopies
from loopmorph.passes.layout.local_borders import LocalBorders
from loopmorph.passes.layout.pad_channels import PadChannels
from loopmorph.passes.layout.spread_rows import SpreadRows
from loopmorph.passes.layout.turn_rows import TurnRows
from loopmorph.passes.layout.whole_vectors import WholeVectors
from loopmorph.passes.lowering.expand_math import ExpandMath
from loopmorph.passes.lowering.fold_scale import FoldScale
from loopmorph.passes.lowering.fuse_elementwise import FuseElementwise
from loopmorph.passes.lowering.outline_nests import OutlineNests
from loopmorph.passes.lowering.plan_scratch import PlanScratch
from loopmorph.passes.lowering.promote_accumulators import PromoteAccumulators
from loopmorph.passes.lowering.split_prepare import SplitPrepare
from loopmorph.passes.lowering.time_layers import TimeLayers
from loopmorph.passes.nest import functions
from loopmorph.passes.scheduling.default_schedule import DefaultSchedule
from loopmorph.passes.spmd.mark import ParallelizeAll
from loopmorph.passes.spmd.spmd import Spmd
from loopmorph.passes.target.target import Target

# What each operation becomes may hold operations for a later pass, so the order matters.
_TO_LLVM = (
    "canonicalize,cse",
    "func.func(lower-affine)",
    "convert-vector-to-scf",
    "convert-scf-to-cf",
    "expand-strided-metadata",
    "lower-affine",
    "math-extend-to-supported-types{extra-types=f16 target-type=f32}",
    "arith-emulate-unsupported-floats{source-types=bf16 target-type=f32}",
    "arith-expand{include-bf16=true}",  # else x86 without AVX512-BF16 calls a function that is not there
    "math-expand-ops{ops=fpowi}",  # LLVM has no powers by vectors of integers; these are constants
    "convert-math-to-llvm",
    "convert-math-to-libm",
    "convert-vector-to-llvm",
    "finalize-memref-to-llvm",
    "convert-arith-to-llvm",
    "convert-index-to-llvm",
    "convert-ub-to-llvm",
    "convert-func-to-llvm{use-bare-ptr-memref-call-conv=1}",
    "convert-cf-to-llvm",
    "canonicalize,cse",
    "reconcile-unrealized-casts",
)

# Each of these looks through all of a program for what is seldom there: for operations of such names.
_BFLOAT16 = "bf16"  # stands among the names where a program has such numbers
_NARROWED = re.compile(rf"{_BFLOAT16}|arith\.truncf")
_SELDOM = {
    "math-extend-to-supported-types{extra-types=f16 target-type=f32}": _NARROWED,
    "arith-emulate-unsupported-floats{source-types=bf16 target-type=f32}": _NARROWED,
    "convert-vector-to-scf": re.compile(r"vector\.(transfer_read|transfer_write|print)"),
    "expand-strided-metadata": re.compile(r"memref\.(?!(alloc|alloca|dealloc|load|store|prefetch|view|get_global)$)"),
    "math-expand-ops{ops=fpowi}": re.compile(r"math\.fpowi"),
}

# `contract` lets a product and a sum become one fused multiply-add, `reassoc` lets a reduction be summed in several
# lanes: both change only rounding. None of the flags that assume away NaN, infinities or signed zeros: max-pooling
# pads with -inf, and a network's NaN has to stay one.
_FAST_MATH = "#arith.fastmath<reassoc,contract>"
_FAST_OPERATIONS = frozenset({"arith.addf", "arith.subf", "arith.mulf"})


def plan_functions(module: ir.Module, target: Target, threads: int = 1, *, timed: bool = False) -> None:
    """Turns the affine `@main` into `@prepare` and `@run` with folded scales, merged element-wise steps and scratch.

    With several threads, each of them has to execute `@run` (see `morph-spmd`). If `timed`, it notes when each layer
    begins (see `morph-time-layers`).

    Args:
        module: a module of affine nests.
        target: the processor that layouts and schedules are made for.
        threads: number of threads.
        timed: whether to note when layers begin.

    Raises:
        IllegalTransform: the module has no `@main`, or one that returns values; a loop marked as parallel is not.
        CompilationFailed: an access may be outside its memref.
    """
    schedule_nests(module, target, threads)
    plan_scheduled(module, target, threads, timed=timed)


def schedule_nests(module: ir.Module, target: Target, threads: int = 1) -> None:
    """The first part of `plan_functions`, after which nests and memrefs are still those of layers and tensors.

    Args:
        module, target, threads: as there.

    Raises:
        IllegalTransform: the module has no `@main`, or one that returns values.
        CompilationFailed: an access may be outside its memref.
    """
    require_in_bounds(module.operation)
    schedule = DefaultSchedule(target=str(target.shared_by(threads)), threads=threads)
    for step in (*layout_passes(target), schedule):
        step.run(module.operation)


def plan_scheduled(module: ir.Module, target: Target, threads: int = 1, *, timed: bool = False) -> None:
    """The other part of `plan_functions`, after `schedule_nests` with the same target and threads.

    Args:
        module, target, threads, timed: as there.

    Raises:
        IllegalTransform: a loop marked as parallel is not.
        CompilationFailed: an access may be outside its memref.
    """
    for step in _plan(threads):
        step.run(module.operation)
    require_in_bounds(module.operation)  # after the passes too, since none may make such an access
    team = [Spmd(threads, str(target))] if threads > 1 else []
    timing = [TimeLayers(str(target))] if timed else []
    for step in (*team, *timing):
        step.run(module.operation)


def layout_passes(target: Target) -> tuple[Pass, ...]:
    """What runs before the schedules of the nests are decided: it settles which nests there are, and their layouts."""
    return (
        DropEmptyLoops(),
        DropUnreadResults(),
        FoldScale(),
        FuseElementwise(scope="function"),
        ForwardCopies(),
        LocalBorders(),
        DropUnitLoops(),
        TurnRows(target.lanes),
        WholeVectors(target.lanes),
        PadChannels(target.lanes),
        AlignGroups(target.lanes),
        BlockedLayout(target.lanes),
        SpreadRows(target.lanes),
    )


def _plan(threads: int) -> tuple[Pass, ...]:
    before = (ContiguousInnermost(), SplitPrepare())
    after = (PromoteAccumulators(), PlanScratch())
    if threads == 1:
        return (*before, *after)
    # A loop is chosen while memrefs are still distinct, and cut later, when it is known which of them share memory.
    return (*before, ParallelizeAll(threads, function=marks.RUN), *after)


def lower_to_llvm(module: ir.Module) -> None:
    """Lowers every function of a module of affine nests to the LLVM dialect, in place.

    A memref argument becomes a plain pointer to its first element, so only memrefs of static shape that lie densely can
    be arguments.

    Raises:
        CompilationFailed: an operation that cannot be lowered; names it, its location and, where known, its layer.
    """
    with module.context:
        _flatten_empty_arguments(module)
        OutlineNests().run(module.operation)
        _refuse(module, {"memref.copy"})  # it would become a call of a library that is not there
        names = _allow_rounding_changes(module) | _bfloat16(module)
        ExpandMath().run(module.operation)
        needed = [each for each in _TO_LLVM if each not in _SELDOM or any(map(_SELDOM[each].match, names))]
        manager = PassManager.parse(f"builtin.module({','.join(needed)})")
        manager.enable_verifier(False)  # after every pass it would take as long as the passes
        try:
            module.operation.verify()
            manager.run(module.operation)
            module.operation.verify()
        except ir.MLIRError as error:
            raise CompilationFailed(f"cannot lower to LLVM: {_describe(error)}") from error
        _refuse_all_but_llvm(module)
        _separate_kernels(module)


def _bfloat16(module: ir.Module) -> set[str]:
    """`_BFLOAT16` where an argument holds such numbers; what is made within is made by `arith.truncf`."""
    arguments = [a for f in functions(module.operation) if not f.is_external for a in f.entry_block.arguments]
    elements = [a.type.element_type for a in arguments if isinstance(a.type, ir.MemRefType)]
    return {_BFLOAT16} if any(isinstance(element, ir.BF16Type) for element in elements) else set()


def _flatten_empty_arguments(module: ir.Module) -> None:
    """Gives memref arguments without elements the one such type that becomes a pointer; nobody accesses them."""
    for function in functions(module.operation):
        arguments = [a for a in function.entry_block.arguments if isinstance(a.type, ir.MemRefType)]
        for argument in [a for a in arguments if 0 in a.type.shape]:
            argument.set_type(ir.MemRefType.get([0], argument.type.element_type, loc=function.location))
            set_function(function, marks.argument_marks(function))


def _separate_kernels(module: ir.Module) -> None:
    """Keeps LLVM from inlining the nests again, and tells it that no two of their memrefs overlap.

    The memrefs of one nest are different arguments of the whole program or lie in different parts of the scratch.
    """
    unit = ir.UnitAttr.get()
    for op in module.body.operations:
        if marks.KERNEL in op.attributes:
            op.attributes["no_inline"] = unit
            types = [argument.type for argument in op.regions[0].blocks[0].arguments]
            pointers = [{"llvm.noalias": unit} if str(t) == "!llvm.ptr" else {} for t in types]
            op.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(p) for p in pointers])


def _allow_rounding_changes(module: ir.Module) -> set[str]:
    """Sets the flags; returns the names of all operations that there are."""
    flags = ir.Attribute.parse(_FAST_MATH)
    names: set[str] = set()

    def visit(op: ir.Operation) -> ir.WalkResult:
        name = op.name
        names.add(name)
        if name in _FAST_OPERATIONS:
            op.attributes["fastmath"] = flags
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return names


def _refuse(module: ir.Module, names: set[str]) -> None:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name in names:
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    if found:
        raise CompilationFailed(f"cannot lower to LLVM: '{found[0].name}' {_place(found[0].location)}")


def _refuse_all_but_llvm(module: ir.Module) -> None:
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if not op.name.startswith(("llvm.", "builtin.module")):
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    if found:
        raise CompilationFailed(f"cannot lower to LLVM: '{found[0].name}' {_place(found[0].location)}")


def _describe(error: ir.MLIRError) -> str:
    if not error.error_diagnostics:
        return str(error).splitlines()[0]
    first = error.error_diagnostics[0]
    return f"{first.message.splitlines()[0]} {_place(first.location)}"


def _place(location: ir.Location) -> str:
    """Where an operation comes from; importers name locations "layer@node"."""
    match = re.search(r'"([^"@]*)@([^"]*)"', str(location))
    return f"of layer '{match[1]}' (at {location})" if match else f"(at {location})"
