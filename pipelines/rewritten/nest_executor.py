"""Running a `Recipe` in PyTorch, with autograd: statements as strided views, `conv2d`, `einsum`, element-wise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_recipe import (
    Accumulation,
    Call,
    Constant,
    Load,
    Recipe,
    Statement,
    Value,
    accumulation,
    flatten,
    summands,
)
from loopmorph.pipelines.rewritten.box_view import put, take, view_box
from loopmorph.pipelines.rewritten.convolution_view import convolve, view_convolution

_COMPARISONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "eq": torch.eq,
    "ne": torch.ne,
    "gt": torch.gt,
    "ge": torch.ge,
    "lt": torch.lt,
    "le": torch.le,
}
_OPERATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "arith.addf": torch.add,
    "arith.subf": torch.sub,
    "arith.mulf": torch.mul,
    "arith.divf": torch.div,
    "arith.remf": torch.fmod,
    "arith.negf": torch.neg,
    "arith.maximumf": torch.maximum,
    "arith.minimumf": torch.minimum,
    "arith.select": lambda condition, yes, no: torch.where(condition.bool(), yes, no),
    "arith.andi": torch.logical_and,
    "arith.ori": torch.logical_or,
    "arith.xori": torch.logical_xor,
    "math.absf": torch.abs,
    "math.ceil": torch.ceil,
    "math.cos": torch.cos,
    "math.erf": torch.erf,
    "math.exp": torch.exp,
    "math.exp2": torch.exp2,
    "math.expm1": torch.expm1,
    "math.floor": torch.floor,
    "math.log": torch.log,
    "math.log1p": torch.log1p,
    "math.log2": torch.log2,
    "math.powf": torch.pow,
    "math.rsqrt": torch.rsqrt,
    "math.sin": torch.sin,
    "math.sqrt": torch.sqrt,
    "math.tanh": torch.tanh,
}
_UNARY = ("arith.negf", *(name for name in _OPERATIONS if name.startswith("math.") and name != "math.powf"))
# Operation -> the number of its operands.
ARITIES = {**dict.fromkeys((*_OPERATIONS, "arith.cmpf"), 2), **dict.fromkeys(_UNARY, 1), "arith.select": 3}
PREDICATES = frozenset(  # of `arith.cmpf`
    ["ord", "uno", "true", "false", *(order + kind for order in "ou" for kind in _COMPARISONS)]
)


def check_supported(recipe: Recipe) -> None:
    """Raises:
    IllegalTransform: the recipe holds something that `execute` has no case for; names it.
    """
    where = f"layer '{recipe.layer}'"
    for statement in recipe.statements:
        found = accumulation(statement)
        if statement.guards and (found is None or found[0] != "sum"):
            raise IllegalTransform(where, "a loop bound that depends on other loops in a way that cannot be undone")
        if len(statement.loops) > 50:
            raise IllegalTransform(where, f"a nest of {len(statement.loops)} loops; at most 50 can be executed")
        for name in _operations(statement.value):
            if name not in ARITIES:
                raise IllegalTransform(where, f"operation '{name}' has no case in PyTorch")


def execute(recipe: Recipe, given: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Runs all statements.

    Args:
        recipe: what to run.
        given: buffer number -> tensor, for the inputs and the parameters; all of one dtype and device. The inputs'
            axis 0 may have any extent if `recipe.batch` is not None.

    Returns:
        Buffer number -> tensor of each output, in the buffer's shape (the batch as given on axis 0 of batched ones).
    """
    machine = start(recipe, given)
    machine.run(range(len(recipe.statements)))
    return {k: machine.memory(k) for k in recipe.numbers("output")}


def start(recipe: Recipe, given: Mapping[int, torch.Tensor]) -> Machine:
    """A machine that has run nothing yet; `given` as for `execute`."""
    first = given[recipe.numbers("input")[0]] if recipe.numbers("input") else next(iter(given.values()))
    batch = first.shape[0] if recipe.batch is not None else None
    machine = Machine(recipe, batch, first)
    machine.give(given)
    return machine


@dataclass(frozen=True)
class Array:
    """A tensor with one axis for each of `loops`, in this order."""

    tensor: torch.Tensor
    loops: tuple[int, ...]

    def over(self, loops: tuple[int, ...]) -> torch.Tensor:
        """The tensor with an axis for each of `loops` (its own among them, in the same order), 1 where it has none."""
        shape = dict(zip(self.loops, self.tensor.shape, strict=True))
        return self.tensor.reshape([shape.get(n, 1) for n in loops])


@dataclass
class Machine:
    """What runs a recipe, statement by statement.

    Attributes:
        recipe: what is run.
        batch: extent of the batch; None where the recipe fixes it.
        like: a tensor of the dtype and on the device of all.
        held: buffer number -> its elements, in its shape and any order in memory, so that convolutions keep that of
            their images; none of what is all zero.
        extents: of the loops of the statement that was entered last.
    """

    recipe: Recipe
    batch: int | None
    like: torch.Tensor
    held: dict[int, torch.Tensor] = field(default_factory=dict)
    extents: dict[int, int] = field(default_factory=dict)

    def shape(self, buffer: int) -> tuple[int, ...]:
        shape = self.recipe.buffers[buffer].shape
        return (self.batch, *shape[1:]) if self.batch is not None and buffer in self.recipe.batched else shape

    def give(self, tensors: Mapping[int, torch.Tensor]) -> None:
        """Puts tensors, buffer number -> its elements in any shape, in their places."""
        self.held.update({number: tensor.reshape(self.shape(number)) for number, tensor in tensors.items()})

    def run(self, numbers: range) -> None:
        """Runs some statements in order."""
        for number in numbers:
            self.statement(number)

    def enter(self, number: int) -> tuple[int, ...]:
        """Makes the loops of a statement those that arrays are over; returns the loops of its target."""
        statement = self.recipe.statements[number]
        self.extents = statement.extent_of
        batch_loop = self.recipe.batch_loops[number] if self.recipe.batch_loops else None
        if batch_loop is not None and self.batch is not None:
            self.extents[batch_loop] = self.batch
        kept = forms.used_loops(forms.add(*(_marker(f) for f in statement.target.index)))
        return tuple(n for n in statement.loops if n in kept)

    def statement(self, number: int, left_out: Value | None = None) -> None:
        """Runs one statement, without one of the terms that it adds up, if that is wanted."""
        statement, kept_loops = self.recipe.statements[number], self.enter(number)
        found = accumulation(statement)
        if found is None:
            value = statement.value if left_out is None else _without(statement.value, left_out)
            if value == Constant(0.0) and self._clears(statement.target, kept_loops):
                self.held.pop(statement.target.buffer, None)
                return
            self._write(statement.target, kept_loops, self.evaluate(value), None)
            return
        kind, terms = found
        for term in terms:
            if term is left_out:
                continue
            is_sum = kind == "sum"
            array = self._sum(term, statement, kept_loops) if is_sum else self._extremum(term, kept_loops, kind)
            self._write(statement.target, kept_loops, array, kind)

    # -- values

    def evaluate(self, value: Value) -> Array:
        """A value at every point of the loops that it depends on."""
        if isinstance(value, Load):
            return self.load(value)
        if isinstance(value, Constant):
            return Array(torch.full((), value.value, dtype=self.like.dtype, device=self.like.device), ())
        args = [self.evaluate(a) for a in value.args]
        loops = tuple(sorted({n for a in args for n in a.loops}))
        tensors = [a.over(loops) for a in args]
        if value.op == "arith.cmpf":
            return Array(_compare(value.predicate, tensors[0], tensors[1]), loops)
        return Array(_OPERATIONS[value.op](*tensors), loops)

    def load(self, load: Load) -> Array:
        """What is loaded, at every point of the loops that its address depends on; a view where it can be one."""
        address = load.address(self.recipe.buffers)
        loops = tuple(sorted(forms.used_loops(address)))
        box = view_box(load.index, self.extents)
        if box is not None:
            return Array(take(self.memory(load.buffer), box, self.extents, loops), loops)
        flat = self.flat(load.buffer)
        if _is_strided(address):
            strides = address.coefficients
            sizes, steps = [self.extents[n] for n in loops], [strides[n] for n in loops]
            return Array(flat.as_strided(sizes, steps, flat.storage_offset() + address.constant), loops)
        return Array(flat[self.addresses(address, loops)], loops)

    def addresses(self, address: Form, loops: tuple[int, ...]) -> torch.Tensor:
        """The address (or the value of any other form) at every point of `loops`, int64."""
        return form_values(address, loops, self.extents).to(self.like.device)

    def memory(self, buffer: int) -> torch.Tensor:
        """The elements of a buffer, in its shape; zeros of one that nothing has been written to."""
        return self.held[buffer] if buffer in self.held else self.like.new_zeros(self.shape(buffer))

    def flat(self, buffer: int) -> torch.Tensor:
        """The elements of a buffer, row-major."""
        return self.memory(buffer).contiguous().reshape(-1)

    # -- reductions

    def _sum(self, term: Value, statement: Statement, kept: tuple[int, ...]) -> Array:
        """A product of factors, each over the loops that it uses, summed over all loops that are not kept."""
        terms = flatten(term, "arith.mulf")
        convolved = self._convolve(terms, kept) if not statement.guards else None
        if convolved is not None:
            return convolved
        data_first = sorted(terms, key=self._is_parameter)
        factors = [*(self.evaluate(f) for f in data_first), *(self._mask(guard) for guard in statement.guards)]
        used = {n for f in factors for n in f.loops}
        letters = {n: k for k, n in enumerate(sorted(used))}
        parameters = [f for term, f in zip(data_first, factors, strict=False) if self._is_parameter(term)]
        weighted = {n for factor in parameters for n in factor.loops}
        # As a product of matrices gives them: of features behind their places, which is channels last.
        result = sorted((n for n in kept if n in used), key=lambda n: (n in weighted, _axis(statement.target, n), n))
        operands: list[torch.Tensor | list[int]] = []
        for factor in factors:
            operands += [factor.tensor, [letters[n] for n in factor.loops]]
        repeats = math.prod(self.extents[n] for n in statement.loops if n not in used and n not in kept)
        total = torch.einsum(*operands, [letters[n] for n in result])
        return _in_order(total * repeats if repeats != 1 else total, result)

    def _is_parameter(self, term: Value) -> bool:
        return isinstance(term, Load) and self.recipe.buffers[term.buffer].kind == "parameter"

    def _mask(self, guard: Form) -> Array:
        """1 where the guard holds, 0 elsewhere."""
        loops = tuple(sorted(forms.used_loops(guard)))
        return Array((self.addresses(guard, loops) >= 0).to(self.like.dtype), loops)

    def _convolve(self, terms: Sequence[Value], kept: tuple[int, ...]) -> Array | None:
        """The sum of the product as a convolution; None where it is none."""
        loads = [t for t in terms if isinstance(t, Load)]
        weights = [t for t in loads if self._is_parameter(t)]
        sources = [t for t in loads if t not in weights]
        if len(terms) != 2 or len(weights) != 1 or len(sources) != 1:
            return None
        view = view_convolution(sources[0], weights[0], frozenset(kept), self.recipe.buffers)
        if view is None:
            return None
        image, filters = (self.memory(load.buffer) for load in (sources[0], weights[0]))
        return _in_order(convolve(view, image, filters, self.extents), view.loops)

    def _extremum(self, term: Value, kept: tuple[int, ...], kind: Accumulation) -> Array:
        array = self.evaluate(term)
        if array.tensor.dtype == torch.bool:
            array = Array(array.tensor.to(self.like.dtype), array.loops)
        axes = [k for k, n in enumerate(array.loops) if n not in kept]
        if not axes:
            return array
        reduced = array.tensor.amax(axes) if kind == "max" else array.tensor.amin(axes)
        return Array(reduced, tuple(n for n in array.loops if n in kept))

    # -- stores

    def _write(self, target: Load, loops: tuple[int, ...], array: Array, kind: Accumulation | None) -> None:
        loops = tuple(sorted(loops))
        value = array.over(loops).expand([self.extents[n] for n in loops])
        repeated = value.numel() > array.tensor.numel()
        buffer, shape = target.buffer, self.shape(target.buffer)
        adds = kind == "sum" and buffer in self.held
        if kind in ("max", "min"):
            present = self.load(target)
            value = (torch.maximum if kind == "max" else torch.minimum)(present.over(loops), value)
        address = target.address(self.recipe.buffers)
        order = self._covering_order(address, loops, math.prod(shape))
        if order is not None:
            new = value.permute(order).reshape(shape)
            new = new.contiguous() if repeated else new  # what comes after may change it in place
            self.held[buffer] = self.held[buffer] + new if adds else new
            return
        box = view_box(target.index, self.extents)
        if box is not None and sorted(box.loops) == list(loops):
            self.held[buffer] = put(self.held.get(buffer), shape, box, value, loops, kind == "sum")
            return
        old = self.flat(buffer)
        if self._is_injective(address, loops):
            new = old.clone()
            strides = address.coefficients
            part = new.as_strided(value.shape, [strides[n] for n in loops], address.constant)
            if kind == "sum":
                part.add_(value)
            else:
                part.copy_(value)
            self.held[buffer] = new.reshape(shape)
            return
        position = self.addresses(address, loops).reshape(-1)
        new = old.index_put((position,), value.reshape(-1).to(old.dtype), accumulate=kind == "sum")
        self.held[buffer] = new.reshape(shape)

    def _clears(self, target: Load, loops: tuple[int, ...]) -> bool:
        """Whether zeros that are stored leave nothing else in a buffer."""
        if target.buffer not in self.held:
            return True
        address, size = target.address(self.recipe.buffers), math.prod(self.shape(target.buffer))
        return self._covering_order(address, tuple(sorted(loops)), size) is not None

    def _covering_order(self, address: Form, loops: tuple[int, ...], size: int) -> list[int] | None:
        """The order of `loops` in which the addresses are 0, 1, ... size-1; None where they are not."""
        if not address.is_linear or address.constant:
            return None
        strides = address.coefficients
        order = sorted(range(len(loops)), key=lambda k: -strides[loops[k]])
        expected = size
        for k in order:
            extent = self.extents[loops[k]]
            if expected != strides[loops[k]] * extent:
                return None
            expected //= extent
        return order if expected == 1 else None

    def _is_injective(self, address: Form, loops: tuple[int, ...]) -> bool:
        """Sufficient: each stride exceeds all that the smaller ones reach together."""
        if not _is_strided(address):
            return False
        reach = 0
        for stride, extent in sorted((address.coefficients[n], self.extents[n]) for n in loops):
            if stride <= reach:
                return False
            reach += stride * (extent - 1)
        return True


def _in_order(tensor: torch.Tensor, loops: Sequence[int]) -> Array:
    """A tensor with one axis for each of `loops` as an array, whose loops ascend."""
    order = sorted(range(len(loops)), key=loops.__getitem__)
    return Array(tensor.permute(order), tuple(loops[k] for k in order))


def form_values(form: Form, loops: tuple[int, ...], extents: Mapping[int, int]) -> torch.Tensor:
    """The value of a form at every point of `loops`, int64, with one axis for each of them."""
    grids = {n: torch.arange(extents[n]).reshape([-1 if n == m else 1 for m in loops]) for n in loops}
    zero = torch.zeros([1] * len(loops), dtype=torch.int64)
    return forms.evaluate(form, grids.__getitem__, zero).expand([extents[n] for n in loops])


def _axis(load: Load, loop: int) -> int:
    """The first axis of a buffer that a loop indexes."""
    return next(axis for axis, form in enumerate(load.index) if loop in forms.used_loops(form))


def _without(value: Value, left_out: Value) -> Value:
    """A sum without one of its terms."""
    terms = [term for term in summands(value) if term is not left_out]
    return functools.reduce(lambda a, b: Call("arith.addf", (a, b)), terms) if terms else Constant(0.0)


def check_batch(recipe: Recipe, batch: int) -> None:
    """Raises:
    ArgumentError: the recipe runs with its example batch only, and this is another.
    """
    example = recipe.buffers[recipe.numbers("input")[0]].shape[0]
    if recipe.batch is None and batch != example:
        raise ArgumentError("input", f"layer '{recipe.layer}' is scheduled for batches of {example}, got {batch}")


def _marker(form: Form) -> Form:
    """A form that mentions the same loops with positive coefficients, so that sums of such do not cancel."""
    return forms.add(*(forms.loop(n) for n in forms.used_loops(form)))


def _is_strided(address: Form) -> bool:
    return address.is_linear and all(c > 0 for c in address.coefficients.values())


def _operations(value: Value) -> set[str]:
    if not isinstance(value, Call):
        return set()
    return {value.op}.union(*(_operations(a) for a in value.args))


def _compare(predicate: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`arith.cmpf`: o.. is false, u.. true where an operand is NaN."""
    unordered = torch.isnan(a) | torch.isnan(b)
    if predicate in ("ord", "uno"):
        return unordered if predicate == "uno" else ~unordered
    if predicate in ("true", "false"):
        return torch.full_like(unordered, predicate == "true")
    result = _COMPARISONS[predicate[1:]](a, b)
    return result & ~unordered if predicate[0] == "o" else result | unordered
