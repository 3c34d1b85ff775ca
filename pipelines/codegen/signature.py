"""What compiled functions take: the role, the shape and the type of each of their arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch_mlir import ir
from torch_mlir.dialects import func

from loopmorph.passes import marks
from loopmorph.passes.errors import CompilationFailed

Role = Literal["input", "param", "packed", "scratch", "output", "clock"]
_ROLES: dict[str, Role] = {
    marks.INPUT: "input",
    marks.PARAM: "param",
    marks.PACKED: "packed",
    marks.SCRATCH: "scratch",
    marks.OUTPUT: "output",
    marks.CLOCK: "clock",
}
# Element types in MLIR, and their names in numpy and torch.
ELEMENT_TYPES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "i1": "bool",
}
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2}


@dataclass(frozen=True)
class Argument:
    """One memref argument of a compiled function.

    Attributes:
        role: what is passed there.
        key: a parameter's qualified name; the position of an input or output; a packed memref's number; 0 for scratch.
        shape: its extents; the elements lie densely in row-major order.
        dtype: the element's type by its name in numpy and torch.
    """

    role: Role
    key: str | int
    shape: tuple[int, ...]
    dtype: str

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES.get(self.dtype, 1)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.item_bytes


Signature = tuple[Argument, ...]


def signature_of(function: func.FuncOp | None) -> Signature:
    """The arguments of a function of affine nests, but for those that a team of threads is passed.

    Raises:
        CompilationFailed: an argument without a role, or of a type that has no form in memory here.
    """
    if function is None:
        return ()
    arguments = []
    for value, attributes in zip(function.entry_block.arguments, marks.argument_marks(function), strict=True):
        if marks.THREAD in attributes or marks.TEAM in attributes:
            continue
        mark = next((m for m in _ROLES if m in attributes), None)
        type_ = value.type
        if mark is None or not isinstance(type_, ir.MemRefType) or str(type_.element_type) not in ELEMENT_TYPES:
            raise CompilationFailed(f"argument {value.get_name()} of @{function.name.value}: {type_} cannot be passed")
        dtype = ELEMENT_TYPES[str(type_.element_type)]
        arguments.append(Argument(_ROLES[mark], _key(attributes[mark]), tuple(type_.shape), dtype))
    return tuple(arguments)


def index_limits(function: func.FuncOp | None) -> dict[int, int]:
    """Of each network input whose elements are indices, by its position: into how many elements."""
    if function is None:
        return {}
    marked = [m for m in marks.argument_marks(function) if marks.INPUT in m and marks.BELOW in m]
    return {ir.IntegerAttr(m[marks.INPUT]).value: ir.IntegerAttr(m[marks.BELOW]).value for m in marked}


def _key(attribute: ir.Attribute) -> str | int:
    if isinstance(attribute, ir.StringAttr):
        return attribute.value
    return attribute.value if isinstance(attribute, ir.IntegerAttr) else 0
