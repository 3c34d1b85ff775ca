"""A lowered network made ready to be linked with others: what is called from outside gets a name of its own.

All else in the module becomes private to it. Two exported networks can then be parts of one program.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.lowering.restrict_instructions import has_body, restrict_instructions
from loopmorph.passes.spmd import runtime
from loopmorph.passes.target.target import Target, named_target
from loopmorph.pipelines.codegen.lowered import Lowered

# In files that export writes; one that has it may be written anew.
MARK = "Written by `loopmorph export`; changes are lost when it is written anew."


@dataclass(frozen=True)
class CodeNames:
    """The symbols of a network's code, as C has them.

    Attributes:
        network: the network's name, a C identifier.
        number: which of several targets the code is for; None where there is one.
    """

    network: str
    number: int | None = None

    @property
    def prefix(self) -> str:
        return f"{self.network}_code{'' if self.number is None else self.number}_"

    @property
    def prepare(self) -> str:
        return self.prefix + marks.PREPARE

    @property
    def run(self) -> str:
        return self.prefix + marks.RUN

    @property
    def dispatch(self) -> str:
        return self.prefix + runtime.DISPATCH

    @property
    def work(self) -> str:
        return self.prefix + runtime.WORK

    @property
    def spin(self) -> str:
        return self.prefix + runtime.SPIN

    @property
    def weights(self) -> str:
        return f"{self.network}_code_weights"


def add_entry_points(lowered: Lowered, names: CodeNames, target: Target) -> None:
    """Adds what an exported network is called by, and restricts its code to the target's instructions; in place.

    It is called by functions that take an array of pointers to the values of `@prepare`'s and `@run`'s arguments; with
    several threads there are those of their pool, too (see `loopmorph.passes.spmd.runtime`).

    Args:
        lowered: the network.
        names: how they are called.
        target: the processor.
    """
    module = lowered.module
    with module.context, ir.Location.unknown():
        _merge(module, _entry_text(module, marks.PREPARE, names.prepare))
        _merge(module, _entry_text(module, marks.RUN, names.run))
        if lowered.interface.threads > 1:
            _merge(module, runtime.pool_text(target.arch, names.prefix))
        for op in module.body.operations:
            if has_body(op) and not symbol_name(op).startswith(names.prefix):
                op.operation.attributes["linkage"] = ir.Attribute.parse("#llvm.linkage<internal>")
        restrict_instructions(module, target)


def add_constants(lowered: Lowered, names: CodeNames, weights: bytes | None = None) -> None:
    """Adds what says where the code comes from and, unless they are None, the weights; in place."""
    module = lowered.module
    with module.context, ir.Location.unknown():
        _add_constant(module, f"{names.prefix}made_by", f"{MARK}\0".encode())
        if weights is not None:
            _add_constant(module, names.weights, weights)


def add_bf16_conversion(lowered: Lowered, arch: str) -> None:
    """Adds the function that LLVM calls to round to bfloat16 where there is no instruction for that; in place.

    GCC's library has it from version 13 on. It is weak, so that this copy yields to others. Ties go to even; a NaN
    stays one. It runs on every processor of the instruction set, since code for all targets calls it.
    """
    text = """
    llvm.func weak @__truncsfbf2(%x: f32) -> bf16 {
      %bits = llvm.bitcast %x : f32 to i32
      %nan = llvm.fcmp "uno" %x, %x : f32
      %quiet = llvm.mlir.constant(4194304 : i32) : i32
      %half = llvm.mlir.constant(32767 : i32) : i32
      %one = llvm.mlir.constant(1 : i32) : i32
      %shift = llvm.mlir.constant(16 : i32) : i32
      %upper = llvm.lshr %bits, %shift : i32
      %odd = llvm.and %upper, %one : i32
      %below = llvm.add %bits, %half : i32
      %rounded = llvm.add %below, %odd : i32
      %still_nan = llvm.or %bits, %quiet : i32
      %chosen = llvm.select %nan, %still_nan, %rounded : i1, i32
      %result = llvm.lshr %chosen, %shift : i32
      %narrow = llvm.trunc %result : i32 to i16
      %value = llvm.bitcast %narrow : i16 to bf16
      llvm.return %value : bf16
    }"""
    with lowered.module.context, ir.Location.unknown():
        added = ir.Module.parse(text)
        restrict_instructions(added, named_target(arch))
        _add_unknown(lowered.module, added)


def _entry_text(module: ir.Module, inner: str, outer: str) -> str:
    """A function that calls another one with the values that an array points to."""
    function = next(op for op in module.body.operations if has_body(op) and symbol_name(op) == inner)
    types = [str(argument.type) for argument in function.operation.regions[0].blocks[0].arguments]
    loads = [
        f"%at{k} = llvm.getelementptr %arguments[{k}] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr\n"
        f"%place{k} = llvm.load %at{k} : !llvm.ptr -> !llvm.ptr\n"
        f"%value{k} = llvm.load %place{k} : !llvm.ptr -> {type_}\n"
        for k, type_ in enumerate(types)
    ]
    values, signature = ", ".join(f"%value{k}" for k in range(len(types))), ", ".join(types)
    return (
        f"llvm.func @{inner}({signature})\n"
        f"llvm.func @{outer}(%arguments: !llvm.ptr) attributes {{no_inline}} {{\n{''.join(loads)}"
        f"llvm.call @{inner}({values}) : ({signature}) -> ()\nllvm.return\n}}\n"
    )


def _merge(module: ir.Module, text: str) -> None:
    """Adds what a text defines, but for names that the module has already."""
    _add_unknown(module, ir.Module.parse(text))


def _add_unknown(module: ir.Module, other: ir.Module) -> None:
    known = {symbol_name(op) for op in module.body.operations}
    for op in other.body.operations:
        if symbol_name(op) not in known:
            module.body.append(op.operation.clone())


def _add_constant(module: ir.Module, name: str, content: bytes) -> None:
    attributes = {
        "sym_name": ir.StringAttr.get(name),
        "global_type": ir.TypeAttr.parse(f"!llvm.array<{len(content)} x i8>"),
        "linkage": ir.Attribute.parse("#llvm.linkage<external>"),
        "constant": ir.UnitAttr.get(),
        "value": ir.StringAttr.get(content),
        "alignment": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), marks.ALIGNMENT),
    }
    with ir.InsertionPoint(module.body):
        ir.Operation.create("llvm.mlir.global", attributes=attributes, regions=1)


def is_defined(op: ir.OpView) -> bool:
    """Whether an operation of a module defines its symbol: a function with a body, or a constant."""
    return op.operation.name != "llvm.func" or has_body(op)


def symbol_name(op: ir.OpView) -> str:
    """The symbol of a function or a constant."""
    return ir.StringAttr(op.operation.attributes["sym_name"]).value
