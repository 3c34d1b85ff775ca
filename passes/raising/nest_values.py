"""What an SSA value of a nest is, as plain data: loads, constants and scalar operations; of a vector, lane by lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from torch_mlir import ir

from loopmorph.passes.arithmetic import ARITHMETIC
from loopmorph.passes.errors import IllegalTransform
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import Call, Constant, Load, Value

# Casts between float types: the executor computes everything in one type.
_FLOAT_CASTS = ("arith.truncf", "arith.extf")
_CMPF_PREDICATES = (
    *("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord"),
    *("ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true"),
)
# A maximum or minimum written as comparison and selection: predicate -> operation on `a` and `b` of a ? b : b
_SELECTIONS = {
    **dict.fromkeys(("ogt", "oge", "ugt", "uge"), "arith.maximumf"),
    **dict.fromkeys(("olt", "ole", "ult", "ule"), "arith.minimumf"),
}
# The operation that combines two lanes, by how `vector.reduction` spells it.
_REDUCTIONS = {
    "add": "arith.addf",
    "mul": "arith.mulf",
    "maximumf": "arith.maximumf",
    "maxnumf": "arith.maximumf",
    "minimumf": "arith.minimumf",
    "minnumf": "arith.minimumf",
}
_FROM_ELEMENTS = "vector.from_elements"


@dataclass(frozen=True)
class Held:
    """A value in a register, by what it was read from.

    Attributes:
        load: the element, of a vector that of the first lane; the others follow along the last axis.
        around: the loops around the place where it was read.
        time: when, in program order.
    """

    load: Load
    around: tuple[int, ...]
    time: int


@dataclass
class Values:
    """The values of one layer's nests.

    Attributes:
        held: those that were read from memory, or that loops carry.
    """

    held: dict[ir.Value, Held] = field(default_factory=dict)

    def of(self, value: ir.Value, lane: Form | None, label: str, read: list[Held]) -> Value:
        """A value, or one lane of a vector.

        Args:
            value: the value.
            lane: the number of the lane; None for a scalar. Where `is_even` is false it has to be a constant.
            label: how error messages name the nest.
            read: gets what the value was computed from.

        Raises:
            IllegalTransform: an operation that is no scalar arithmetic, lane by lane.
        """
        if value in self.held:
            held = self.held[value]
            load = held.load if lane is None else at_lane(held.load, lane)
            read.append(Held(load, held.around, held.time))
            return load
        owner = value.owner
        if isinstance(owner, ir.Block):
            raise IllegalTransform(label, "it computes with an iterator's value or with a scalar argument")
        op = owner.operation
        if op.name == "arith.constant":
            constant = _constant(op.attributes["value"], lane)
            if constant is not None:
                return constant
        if op.name == "vector.broadcast" and not isinstance(op.operands[0].type, ir.VectorType):
            return self.of(op.operands[0], None, label, read)
        if op.name == _FROM_ELEMENTS and lane is not None:
            return self._element(op, lane, label, read)
        if op.name == "vector.extract" and len(op.operands) == 1:
            (position,) = ir.DenseI64ArrayAttr(op.attributes["static_position"])
            return self.of(op.operands[0], forms.constant(position), label, read)
        if not is_arithmetic(op) or op.name == "arith.constant":
            refuse(label, op, "no case for it in PyTorch")
        return _call(op, tuple(self.of(v, _lane_of(v, lane), label, read) for v in op.operands))

    def is_even(self, value: ir.Value) -> bool:
        """Whether every lane of a vector is one and the same expression of the lane's number."""
        if value in self.held or isinstance(value.owner, ir.Block):
            return True
        op = value.owner.operation
        if op.name == "arith.constant":
            attribute = op.attributes["value"]
            return not isinstance(attribute, ir.DenseElementsAttr) or attribute.is_splat
        if op.name == _FROM_ELEMENTS:
            return self._series(op) is not None
        vectors = [v for v in op.operands if isinstance(v.type, ir.VectorType)]
        return op.name == "vector.extract" or all(self.is_even(v) for v in vectors)

    def _element(self, op: ir.Operation, lane: Form, label: str, read: list[Held]) -> Value:
        if not lane.terms:
            return self.of(op.operands[lane.constant], None, label, read)
        series = self._series(op)
        if series is None:
            refuse(label, op, "its elements are no series")
        for operand in op.operands:
            held = self.held[operand]
            read.append(held)
        first, step = series
        index = tuple(forms.add(f, forms.scale(lane, s)) for f, s in zip(first.index, step, strict=True))
        return Load(first.buffer, index)

    def _series(self, op: ir.Operation) -> tuple[Load, tuple[int, ...]] | None:
        """The first element and the distance, per axis, to the next, where the elements lie evenly in one memref."""
        if any(v not in self.held for v in op.operands):
            return None
        loads = [self.held[v].load for v in op.operands]
        first, second = loads[0], loads[min(1, len(loads) - 1)]
        if second.buffer != first.buffer:
            return None
        step = tuple(b.constant - a.constant for a, b in zip(first.index, second.index, strict=True))
        for k, load in enumerate(loads):
            expected = tuple(forms.add(f, forms.constant(k * s)) for f, s in zip(first.index, step, strict=True))
            if load != Load(first.buffer, expected):
                return None
        return first, step


def is_arithmetic(op: ir.Operation) -> bool:
    """Whether the operation computes each lane of its result from the same lane of its operands."""
    return op.name.startswith(ARITHMETIC) or op.name == "vector.fma"


def at_lane(load: Load, lane: Form) -> Load:
    """The element of a lane, given that of the first one."""
    return Load(load.buffer, (*load.index[:-1], forms.add(load.index[-1], lane)))


def width_of(value: ir.Value) -> int | None:
    """The number of lanes of a vector of one dimension; None for a scalar."""
    return value.type.shape[0] if isinstance(value.type, ir.VectorType) else None


def combination(op: ir.Operation, label: str) -> str:
    """The operation with which a `vector.reduction` combines the lanes.

    Raises:
        IllegalTransform: one that has no case in PyTorch.
    """
    kind = str(op.attributes["kind"]).partition("<")[2].rstrip(">")
    if kind not in _REDUCTIONS:
        refuse(label, op, f"no case for '{kind}' in PyTorch")
    return _REDUCTIONS[kind]


def refuse(label: str, op: ir.Operation, why: str) -> NoReturn:
    """Raises:
    IllegalTransform: names the operation and where it is.
    """
    raise IllegalTransform(label, f"'{op.name}' ({op.location}): {why}")


def _lane_of(operand: ir.Value, lane: Form | None) -> Form | None:
    return lane if isinstance(operand.type, ir.VectorType) else None


def _constant(attribute: ir.Attribute, lane: Form | None) -> Constant | None:
    if isinstance(attribute, ir.DenseElementsAttr):
        if attribute.is_splat:
            return _constant(attribute.get_splat_value(), None)
        if lane is None or lane.terms:
            return None
        return _constant_element(attribute, lane.constant)
    if isinstance(attribute, ir.FloatAttr):
        return Constant(ir.FloatAttr(attribute).value)
    if isinstance(attribute, ir.BoolAttr | ir.IntegerAttr):
        return Constant(float(attribute.value))
    return None


def _constant_element(attribute: ir.DenseElementsAttr, position: int) -> Constant:
    kind = ir.ShapedType(attribute.type).element_type
    elements: Sequence[float] = (
        ir.DenseIntElementsAttr(attribute) if isinstance(kind, ir.IntegerType) else ir.DenseFPElementsAttr(attribute)
    )
    return Constant(float(elements[position]))


def _call(op: ir.Operation, args: tuple[Value, ...]) -> Value:
    if op.name in _FLOAT_CASTS:
        return args[0]
    if op.name in ("math.fma", "vector.fma"):
        return Call("arith.addf", (Call("arith.mulf", args[:2]), args[2]))
    if op.name in ("arith.maxnumf", "arith.minnumf"):
        return Call(op.name.replace("num", "imum"), args)
    if op.name == "arith.cmpf":
        return Call(op.name, args, _CMPF_PREDICATES[ir.IntegerAttr(op.attributes["predicate"]).value])
    if op.name == "arith.select" and isinstance(args[0], Constant):
        return args[1] if args[0].value else args[2]
    if op.name == "arith.select" and isinstance(args[0], Call) and args[0].args == args[1:]:
        selection = _SELECTIONS.get(args[0].predicate)
        if selection is not None:
            return Call(selection, args[1:])
    return Call(op.name, args)
