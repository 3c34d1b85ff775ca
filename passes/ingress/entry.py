"""`morph-entry`: the one function of a foreign module that is to be compiled, as `@main` with marked arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir
from torch_mlir.dialects import func, memref

from loopmorph.passes import marks
from loopmorph.passes.analysis.dependence.aliasing import is_constant_global
from loopmorph.passes.analysis.dependence.known_operations import require_known_operations
from loopmorph.passes.analysis.iterator_names import names_by_rank
from loopmorph.passes.analysis.memory.dataflow import effects
from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.base import Pass
from loopmorph.passes.building.arguments import add_argument, find_function, set_function
from loopmorph.passes.building.nest_builder import NestHeader, build_nest, load, store
from loopmorph.passes.diagnostics import location_text
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.nest import functions, view_nest

_MAIN = "main"
_ROLES = (marks.INPUT, marks.OUTPUT, marks.PARAM)
_ALLOWED = frozenset(
    {
        *("affine.for", "affine.load", "affine.store", "affine.apply", "func.return"),
        *("memref.alloc", "memref.alloca", "memref.dealloc", "memref.get_global"),
    }
)
_BOTH = "both"


@dataclass(frozen=True)
class Entry(Pass):
    """Makes a function of affine nests the program's `@main`, and says of its arguments what they are.

    An argument that is only read becomes an input, one that is only written an output. One that is both becomes an
    output that is copied from a further argument first, an input. A scalar becomes an input of no axes. Arguments that
    have a mark (`morph.input`, `morph.output`, `morph.param`) keep it. The other functions go. No two arguments may
    overlap.

        func.func @gemm(%A, %B, %C) {...}
        =>  func.func @main(%A {morph.input = 0}, %B {morph.input = 1}, %C {morph.output = 0}, %C0 {morph.input = 2})

    Requires: one block, no results, no calls; of memory what the analyses know; memrefs of static shape that lie
    densely.

    Options:
        function: its name; by default the only public function that no other one calls.
        parameters: positions of arguments, from 0, that hold weights: a transformation of the network may give these
            another shape, and what depends on them alone is computed once.
    """

    name: ClassVar[str] = "morph-entry"
    function: str = ""
    parameters: tuple[int, ...] = ()

    def run(self, module: ir.Operation) -> None:
        with module.context, ir.Location.unknown():
            function = self._chosen(module)
            roles = self._roles(function)
            _require_shape(function)
            for other in [f for f in _all_functions(module) if f.operation != function.operation]:
                other.operation.erase()
            _rewrite(function, roles)

    def _chosen(self, module: ir.Operation) -> func.FuncOp:
        known = functions(module)
        if self.function:
            found = find_function(module, self.function)
            if found is None:
                names = ", ".join(f"@{f.name.value}" for f in known) or "no function"
                raise ArgumentError("function", f"no function '{self.function}' with a body; the module has {names}")
            return found
        if not known:
            raise IllegalTransform("module", "it has no function with a body; one is expected")
        called = _called(module)
        public = [f for f in known if marks.get_text(f, "sym_visibility") != "private" and f.name.value not in called]
        if len(public) == 1:
            return public[0]
        if not public:
            raise IllegalTransform(
                "module", "each of its functions is private or called by one; name one: function=NAME"
            )
        names = ", ".join(f"@{f.name.value}" for f in public)
        raise IllegalTransform("module", f"it has {len(public)} entry points, {names}; name one: function=NAME")

    def _roles(self, function: func.FuncOp) -> list[str]:
        """The mark of each argument; empty where it has one, "both" where it is an input and an output."""
        count = len(function.entry_block.arguments)
        wrong = next((k for k in self.parameters if not 0 <= k < count), None)
        if wrong is not None:
            raise ArgumentError("parameters", f"@{function.name.value} has no argument {wrong}; it has {count}, from 0")
        touched = [effects(op.operation) for op in function.entry_block.operations]
        read = {value for each in touched for value in each.reads}
        written = {value for each in touched for value in each.writes}
        roles = []
        for k, (argument, own) in enumerate(
            zip(function.entry_block.arguments, marks.argument_marks(function), strict=True)
        ):
            _require_passable(function, argument, k)
            if k in self.parameters:
                if argument in written:
                    raise ArgumentError("parameters", f"argument {k} of @{function.name.value} is written")
                roles.append(marks.PARAM)
            elif any(role in own for role in _ROLES):
                roles.append("")
            elif argument in written:
                roles.append(_BOTH if argument in read else marks.OUTPUT)
            else:
                roles.append(marks.INPUT)
        return roles


def _all_functions(module: ir.Operation) -> list[func.FuncOp]:
    return [op for op in module.regions[0].blocks[0].operations if isinstance(op, func.FuncOp)]


def _called(module: ir.Operation) -> set[str]:
    found: set[str] = set()

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "func.call":
            found.add(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
        return ir.WalkResult.ADVANCE

    module.walk(visit)
    return found


# -- what is refused


def _require_shape(function: func.FuncOp) -> None:
    where = f"function @{function.name.value} ({location_text(function.location)})"
    if len(function.body.blocks) != 1:
        raise IllegalTransform(where, "it branches; one block is expected")
    if function.type.results:
        raise IllegalTransform(where, "it returns values; run 'buffer-results-to-out-params' before")
    for op in (view.operation for view in function.entry_block.operations):
        if op.name not in _ALLOWED and not (op.name.startswith(ARITHMETIC) and not len(op.regions)):
            raise _unknown(op)
        if op.name in ("memref.alloc", "memref.alloca") and not _is_dense(op.results[0].type):
            raise IllegalTransform(f"{op.name} ({location_text(op.location)})", _DENSE.format(op.results[0].type))
        if op.name == "memref.get_global" and not is_constant_global(op):
            raise IllegalTransform(f"{op.name} ({location_text(op.location)})", "a global memref that is not constant")
        if op.name == "affine.for":
            require_known_operations(view_nest(op.opview))


def _unknown(op: ir.Operation) -> IllegalTransform:
    remedy = {"func.call": "run 'inline' before", "linalg": "run 'morph-linalg-to-affine' before"}
    hint = remedy.get(op.name) or remedy.get(op.name.partition(".")[0]) or "affine nests are expected"
    return IllegalTransform(f"{op.name} ({location_text(op.location)})", f"it has no place beside affine nests; {hint}")


_DENSE = "{}: only memrefs of static shape that lie densely can be compiled"


def _require_passable(function: func.FuncOp, argument: ir.Value, position: int) -> None:
    where = f"argument {position} of @{function.name.value} ({location_text(function.location)})"
    type_ = argument.type
    element = type_.element_type if isinstance(type_, ir.MemRefType) else type_
    if not isinstance(element, ir.IntegerType | ir.FloatType):
        raise IllegalTransform(where, f"{type_} cannot be passed to compiled code; numbers and memrefs of them can")
    if isinstance(type_, ir.MemRefType) and not _is_dense(type_):
        raise IllegalTransform(where, _DENSE.format(type_))


def _is_dense(type_: ir.Type) -> bool:
    memref_type = ir.MemRefType(type_)
    if not memref_type.has_static_shape or memref_type.memory_space is not None:
        return False
    layout = memref_type.layout
    return isinstance(layout, ir.AffineMapAttr) and layout.value == ir.AffineMap.get_identity(memref_type.rank)


# -- the new function


def _rewrite(function: func.FuncOp, roles: list[str]) -> None:
    own = marks.argument_marks(function)
    numbers = {role: _free_numbers(own, role) for role in (marks.INPUT, marks.OUTPUT)}
    arguments = list(function.entry_block.arguments)
    for k, (argument, role) in enumerate(zip(arguments, roles, strict=True)):
        if role == marks.PARAM:
            kept = {name: mark for name, mark in own[k].items() if name not in (marks.INPUT, marks.OUTPUT)}
            own[k] = {marks.PARAM: ir.StringAttr.get(f"arg{k}"), **kept}
        elif role:
            mark = marks.OUTPUT if role == _BOTH else role
            own[k] = {**own[k], mark: _number(next(numbers[mark]))}
        if not isinstance(argument.type, ir.MemRefType):
            _pass_by_memref(function, argument)
    set_function(function, own)
    for k, (argument, role) in enumerate(zip(arguments, roles, strict=True)):
        if role == _BOTH:
            _copy_in(function, argument, k, _number(next(numbers[marks.INPUT])))
    for op in [view.operation for view in function.entry_block.operations]:
        if op.name == "memref.alloca":
            with ir.InsertionPoint(op), op.location:
                op.results[0].replace_all_uses_with(memref.AllocOp(op.results[0].type, [], []).result)
            op.erase()
    function.attributes["sym_name"] = ir.StringAttr.get(_MAIN)
    if "sym_visibility" in function.attributes:
        del function.attributes["sym_visibility"]


def _pass_by_memref(function: func.FuncOp, argument: ir.Value) -> None:
    """Makes a number the one element of a memref."""
    uses = list(argument.uses)
    argument.set_type(ir.MemRefType.get([], argument.type))
    with ir.InsertionPoint.at_block_begin(function.entry_block), function.location:
        value = load(argument, ir.AffineMap.get_identity(0), [])
    for use in uses:
        use.owner.operation.operands[use.operand_number] = value


def _copy_in(function: func.FuncOp, argument: ir.Value, position: int, number: ir.Attribute) -> None:
    """Gives an argument that is read and written its elements from an input of its own."""
    source = add_argument(function, argument.type, {marks.INPUT: number})
    shape = tuple(ir.MemRefType(argument.type).shape)
    map_ = ir.AffineMap.get_identity(len(shape))

    def body(variables: list[ir.Value]) -> None:
        store(load(source, map_, variables), argument, map_, variables)

    header = NestHeader(names_by_rank(len(shape)), shape, {marks.LAYER: f"arg{position}", marks.ROLE: marks.COPY})
    with ir.InsertionPoint.at_block_begin(function.entry_block):
        build_nest(header, body, function.location)


def _free_numbers(own: list[dict[str, ir.Attribute]], role: str) -> Iterator[int]:
    taken = {ir.IntegerAttr(each[role]).value for each in own if role in each}
    return (number for number in itertools.count() if number not in taken)


def _number(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
