"""Fitting one layer: the parameters of its nests with which it gives, on what it reads now, what the original gave.

`W = argmin |W u(x) - y|^2 + ridge |W - W_0|^2`, with x what the rewritten network hands to the layer, u(x) the elements
that the nests multiply with the parameter, read off their access maps, y the original layer's output on the same images
and W_0 the inherited values. Blocks (groups, bands, slices) are solved one by one, a bias is an intercept.

Where nests stand between the parameter and the output: if they copy (a coarse grid read back), the fit is to the mean
of the elements that one element stands for; if they contract again (a mix), the first one is fitted to the channels
that it was made from, and the next one to the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.oracle.nest_executor import Array, Machine, start
from loopmorph.pipelines.oracle.repair.linear_terms import (
    LinearTerm,
    is_contracted_again,
    later_statements,
    linear_terms,
)
from loopmorph.pipelines.oracle.repair.normal_equations import EXACT, Equations, NormalEquations, Solution
from loopmorph.pipelines.oracle.repair.row_equations import RowEquations

_HOLD_OUT = 6  # one chunk of so many is held out to choose the ridge by
_LEAST_UNKNOWNS = 64  # small problems get the rows of one of this size
_CHUNK = 1 << 25  # elements of a chunk's largest matrix: 128 MiB in float32


@dataclass(frozen=True)
class FitSettings:
    """How a layer is fitted.

    Attributes:
        ridges: as a share of the mean of the Gram matrix's diagonal; of several that is taken for each layer with which
            the fit to most images is best on the others.
        rows: rows for each unknown at most, drawn at random where there are more; None for all.
        seed: of that draw.
        memory: bytes that the images' activations may take, by an estimate; of more images than fit the rest is left.
    """

    ridges: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
    rows: int | None = 64
    seed: int = 0
    memory: int = 4 << 30


@dataclass(frozen=True)
class LayerSamples:
    """What a layer reads and what it should give.

    Attributes:
        inputs: the layer's inputs in the order of its nests, (N, ...) each.
        target: (N, ...) what the original layer gave.
    """

    inputs: tuple[torch.Tensor, ...]
    target: torch.Tensor


@dataclass(frozen=True)
class FittedTerm:
    """One parameter, as fitted: its name, its values, and what least squares said."""

    parameter: str
    value: torch.Tensor
    solution: Solution
    rows: int
    dropped: int


EquationsT = TypeVar("EquationsT", NormalEquations, Equations)
MakeEquations = Callable[[tuple[int, int, int], float, torch.device], EquationsT]
Selections = Mapping[str, Sequence[tuple[int, torch.Tensor]]]


def fit_layer(
    recipe: Recipe,
    values: Mapping[str, torch.Tensor],
    samples: LayerSamples,
    selections: Selections,
    centred: bool,
    settings: FitSettings,
) -> list[FittedTerm]:
    """Fits every parameter that a layer is linear in, in program order, each with the ones before as fitted.

    Args:
        recipe: the layer's nests.
        values: name -> present values of the parameters, float32.
        samples: what it reads and what it should give; the target's elements, but for `selections`, are the output's.
        selections: name of a parameter -> (axis, indices): along that axis of what it is summed into, element k stands
            for element `indices[k]` of the target.
        centred: whether a constant may be left over for each output, since what follows takes it away (BatchNorm).
        settings: how.
    """
    present, fitted = dict(values), list[FittedTerm]()
    terms = linear_terms(recipe)
    has_bias = any(term.is_bias for term in terms)
    for term in terms:
        name = recipe.buffers[term.weight.buffer].name
        fit = _TermFit(recipe, term, selections.get(name, ()), settings)
        found = fit.run(present, samples, centred or (has_bias and not term.is_bias))
        if found is not None:
            fitted.append(found)
            present[name] = found.value
    return fitted


def term_equations(
    recipe: Recipe, term: LinearTerm, values: Mapping[str, torch.Tensor], samples: LayerSamples, settings: FitSettings
) -> tuple[torch.Tensor, NormalEquations] | None:
    """The least-squares problem of one parameter that a layer is linear in, with all its rows.

    Args:
        recipe: the layer's nests.
        term: the parameter's term.
        values: name -> present values of the parameters, float32.
        samples: what the layer reads and what it should give.
        settings: how many rows are drawn.

    Returns:
        Where the elements (block, unknown, output) lie in the parameter, int64, and the equations; None where they are
        not each one unknown of one problem.
    """
    found = _TermFit(recipe, term, (), settings).equations(values, samples, _gram)
    return None if found is None else (found[0], found[1].joined(found[2]))


def _gram(shape: tuple[int, int, int], _rows: float, device: torch.device) -> NormalEquations:
    return NormalEquations.empty(*shape, device)


@dataclass(frozen=True)
class _TermFit:
    recipe: Recipe
    term: LinearTerm
    selections: Sequence[tuple[int, torch.Tensor]]
    settings: FitSettings

    def run(self, values: Mapping[str, torch.Tensor], samples: LayerSamples, intercept: bool) -> FittedTerm | None:
        """The fitted parameter; None where its elements are not each one unknown of one problem."""
        found = self.equations(values, samples, _empty)
        if found is None:
            return None
        positions, fitted, held_out = found
        name = self.recipe.buffers[self.term.weight.buffer].name
        flat = values[name].detach().clone().contiguous().view(-1)
        solution = fitted.fitted(held_out, flat[positions].double(), self.settings.ridges, intercept)
        flat[positions.reshape(-1)] = solution.weight.reshape(-1).to(flat)
        rows, dropped = fitted.rows + held_out.rows, fitted.dropped + held_out.dropped
        return FittedTerm(name, flat.view(values[name].shape), solution, rows, dropped)

    def equations(
        self, values: Mapping[str, torch.Tensor], samples: LayerSamples, make: MakeEquations[EquationsT]
    ) -> tuple[torch.Tensor, EquationsT, EquationsT] | None:
        """Where the unknowns (block, unknown, output) lie in the parameter, the equations of the rows that are fitted,
        and those of the rows held out, which `make` begins.
        """
        equations = list[EquationsT]()
        positions: torch.Tensor | None = None
        share, count = 1.0, samples.inputs[0].shape[0]
        for number, (machine, target) in enumerate(self._chunks(values, samples)):
            machine.enter(self.term.number)
            if positions is None:
                chunks = count / (machine.batch or count)
                share = self._share(machine, chunks)
                positions = self._positions(machine)
                if positions.unique().numel() != positions.numel():
                    return None
            u, y = self._rows(machine, target, self._picks(machine, share, self.settings.seed + number))
            if not equations:
                shape = u.shape[0], u.shape[2], y.shape[2]
                positions = positions.reshape(shape)
                equations = [make(shape, u.shape[1] * chunks, u.device) for _ in range(2)]
            equations[number % _HOLD_OUT == _HOLD_OUT - 1].add(u, y)
        if positions is None or not any(each.rows for each in equations):
            return None
        return positions, equations[0], equations[1]

    def _positions(self, machine: Machine) -> torch.Tensor:
        """Where the elements (block, unknown, output) lie in the parameter."""
        address = self.term.weight.address(self.recipe.buffers)
        ordered = tuple(sorted(self.term.weight_loops))
        found = machine.addresses(address, ordered)
        return found.permute([ordered.index(n) for n in self.term.weight_loops])

    # -- chunks of images

    def _chunks(
        self, values: Mapping[str, torch.Tensor], samples: LayerSamples
    ) -> Iterator[tuple[Machine, torch.Tensor]]:
        """Machines that have run all before the term, and what the term's buffer should get, flat."""
        count = samples.inputs[0].shape[0]
        step = count if self.recipe.batch is None else self._images(count)
        for begin in range(0, count, step):
            given = {
                number: x[begin : begin + step].reshape(-1, *self.recipe.buffers[number].shape[1:])
                for number, x in zip(self.recipe.numbers("input"), samples.inputs, strict=True)
            }
            for number in self.recipe.numbers("parameter"):
                given[number] = values[self.recipe.buffers[number].name]
            machine = start(self.recipe, given)
            machine.run(range(self.term.number))
            target = self._target(machine, samples.target[begin : begin + step])
            if target is None:
                return
            yield machine, target

    def _images(self, count: int) -> int:
        """How many samples make a chunk; enough chunks that some can be held out."""
        extents = self.recipe.statements[self.term.number].extent_of
        batch = self.recipe.batch_loops[self.term.number]
        used = [*self.term.blocks, *self.term.unknowns, *self.term.samples]
        each = math.prod(extents[n] for n in used if n != batch)
        others = max(math.prod(b.shape[1:]) for b in self.recipe.buffers if b.kind != "parameter")
        return max(1, min(-(-count // _HOLD_OUT), _CHUNK // max(1, each, others)))

    # -- what the term's buffer should get

    def _target(self, machine: Machine, target: torch.Tensor) -> torch.Tensor | None:
        number = self.term.number
        buffer = self.recipe.statements[number].target.buffer
        later = later_statements(self.recipe, self.term)
        if is_contracted_again(self.recipe, self.term):
            return self._selected(target, machine.shape(buffer))
        (output,) = self.recipe.numbers("output")
        wanted = self._selected(target, machine.shape(output))
        if wanted is None:
            return None
        rest = range(number + 1, len(self.recipe.statements))
        others = replace(machine, flat=dict(machine.flat))
        others.statement(number, left_out=self.term.term)
        others.run(rest)
        difference = wanted - others.memory(output)
        if not later and buffer == output:
            return difference
        return self._pulled_back(machine, rest, difference)

    def _pulled_back(self, machine: Machine, rest: range, difference: torch.Tensor) -> torch.Tensor | None:
        """The mean, over the output's elements that copy one element of the buffer, of what they should be."""
        buffer = self.recipe.statements[self.term.number].target.buffer
        (output,) = self.recipe.numbers("output")
        with torch.enable_grad():
            variable = machine.memory(buffer).detach().clone().requires_grad_(True)
            after = replace(machine, flat={**machine.flat, buffer: variable})
            after.run(rest)
            result = after.memory(output)
            if not result.requires_grad:
                return None
            (total,) = torch.autograd.grad(result, variable, difference, retain_graph=True)
            (copies,) = torch.autograd.grad(result, variable, torch.ones_like(difference))
        return torch.where(copies > 0, total / copies.clamp_min(1), torch.zeros_like(total))

    def _selected(self, target: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
        """The target in the shape of a buffer, flat; None where it does not fit."""
        whole = list(shape)
        for axis, _ in self.selections:
            others = math.prod(size for d, size in enumerate(whole) if d != axis)
            whole[axis] = target.shape[axis] if target.dim() == len(shape) else target.numel() // max(1, others)
        if math.prod(whole) != target.numel():
            return None
        found = target.reshape(whole)
        for axis, indices in self.selections:
            found = found.index_select(axis, indices.to(found.device))
        return found.reshape(-1) if found.shape == torch.Size(shape) else None

    # -- rows of the problem

    def _rows(
        self, machine: Machine, target: torch.Tensor, picks: tuple[torch.Tensor, ...] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """u (blocks, rows, unknowns) and y (blocks, rows, outputs)."""
        term, extents = self.term, machine.extents
        buffer = self.recipe.statements[term.number].target
        reader = replace(machine, flat={**machine.flat, buffer.buffer: target})
        u = _laid_out(self._source(machine), (*term.samples, *term.blocks, *term.unknowns), extents, picks)
        y = _laid_out(reader.load(buffer), (*term.samples, *term.blocks, *term.outputs), extents, picks)
        blocks, unknowns, outputs = (_size(n, extents) for n in (term.blocks, term.unknowns, term.outputs))
        return u.reshape(-1, blocks, unknowns).transpose(0, 1), y.reshape(-1, blocks, outputs).transpose(0, 1)

    def _source(self, machine: Machine) -> Array:
        arrays = [machine.evaluate(source) for source in self.term.sources]
        if not arrays:
            return Array(torch.ones((), dtype=machine.like.dtype, device=machine.like.device), ())
        loops = tuple(sorted({n for a in arrays for n in a.loops}))
        product = arrays[0]
        if len(arrays) > 1:
            product = Array(math.prod((a.over(loops) for a in arrays[1:]), start=arrays[0].over(loops)), loops)
        axes = [k for k, n in enumerate(product.loops) if n in self.term.summed]
        if not axes:
            return product
        kept = tuple(n for n in product.loops if n not in self.term.summed)
        return Array(product.tensor.sum(axes), kept)

    def _picks(self, machine: Machine, share: float, seed: int) -> tuple[torch.Tensor, ...] | None:
        """For each loop of the samples its value at the rows that are used, drawn at random; None for all rows."""
        sizes = [machine.extents[n] for n in self.term.samples]
        total = math.prod(sizes)
        if share >= 1 or total == 1:
            return None
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(total, generator=generator)[: math.ceil(share * total)].sort().values
        return tuple(part.to(machine.like.device) for part in torch.unravel_index(chosen, tuple(sizes)))

    def _share(self, machine: Machine, chunks: float) -> float:
        """Which share of the rows is used, where there are so many times those of this chunk."""
        if self.settings.rows is None:
            return 1.0
        wanted = self.settings.rows * max(_size(self.term.unknowns, machine.extents), _LEAST_UNKNOWNS)
        return wanted / max(1.0, chunks * _size(self.term.samples, machine.extents))


def _empty(shape: tuple[int, int, int], rows: float, device: torch.device) -> Equations:
    """Problems of (blocks, unknowns, outputs), in the form that takes less work for so many rows."""
    if shape[1] > EXACT and rows < shape[1]:
        return RowEquations()
    return NormalEquations.empty(*shape, device)


def _size(loops: Sequence[int], extents: Mapping[int, int]) -> int:
    return math.prod(extents[n] for n in loops)


def _laid_out(
    array: Array, order: tuple[int, ...], extents: Mapping[int, int], picks: tuple[torch.Tensor, ...] | None
) -> torch.Tensor:
    """An array with one axis for each loop of `order`; of the first ones, as many as there are `picks`, those rows."""
    ascending = tuple(sorted(order))
    whole = array.over(ascending).permute([ascending.index(n) for n in order]).expand([extents[n] for n in order])
    return whole if picks is None else whole[picks]
