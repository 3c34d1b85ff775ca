"""Fitting one parameter that a layer is linear in: its rows, read off the nests, and what least squares makes of them.

See `layer_fit`, which fits a whole layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from loopmorph.passes.raising.nest_recipe import Recipe
from loopmorph.pipelines.oracle.linear_terms import (
    LinearTerm,
    is_contracted_again,
    later_statements,
    name_of,
    term_positions,
)
from loopmorph.pipelines.oracle.repair.dense_fit import DenseFit
from loopmorph.pipelines.oracle.repair.normal_equations import EXACT, Equations, NormalEquations, Solution
from loopmorph.pipelines.oracle.repair.rectified import RectifiedRows
from loopmorph.pipelines.oracle.repair.row_equations import RowEquations
from loopmorph.pipelines.rewritten.nest_executor import Array, Machine, start

_HOLD_OUT = 6  # one chunk of so many is held out to choose the ridge by
_LEAST_UNKNOWNS = 64  # small problems get the rows of one of this size
_KEPT = 1 << 27  # elements of all rows that are kept together: 512 MiB in float32
_CHUNK = 1 << 25  # elements of a chunk's largest matrix: 128 MiB in float32


@dataclass(frozen=True)
class FitSettings:
    """How a layer is fitted.

    Attributes:
        ridges: as a share of the mean of the Gram matrix's diagonal; of several that is taken for each layer with which
            the fit to most images is best on the others.
        rows: rows for each unknown at most, drawn at random where there are more; None for all.
        seed: of that draw.
        refinements: steps towards the best fit of what a rectifier lets through, where one follows (see `rectified`);
            0 for plain least squares there too.
        memory: bytes that the images' activations may take, by an estimate; of more images than fit the rest is left.
    """

    ridges: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
    rows: int | None = 64
    seed: int = 0
    refinements: int = 0
    memory: int = 4 << 30


@dataclass(frozen=True)
class LayerSamples:
    """What a layer reads and what it should give.

    Attributes:
        inputs: the layer's inputs in the order of its nests, (N, ...) each.
        target: (N, ...) what the original layer gave.
        bounds: two tensors like it: below the one and above the other a rectifier that follows lets nothing through.
    """

    inputs: tuple[torch.Tensor, ...]
    target: torch.Tensor
    bounds: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True)
class FittedTerm:
    """One parameter, as fitted: its name, its values, and what least squares said.

    `constants` is there where a rectifier was heeded: (channels,) float64, what is still to be added to each channel of
    the layer's output.
    """

    parameter: str
    value: torch.Tensor
    solution: Solution
    rows: int
    dropped: int
    constants: torch.Tensor | None = None


EquationsT = TypeVar("EquationsT", NormalEquations, Equations)
MakeEquations = Callable[[tuple[int, int, int], float, torch.device], EquationsT]
Selections = Mapping[str, Sequence[tuple[int, torch.Tensor]]]


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
    found = TermFit(recipe, term, (), settings).equations(values, samples, _gram)
    return None if found is None else (found[0], found[1].joined(found[2]))


def _gram(shape: tuple[int, int, int], _rows: float, device: torch.device) -> NormalEquations:
    return NormalEquations.empty(*shape, device)


@dataclass(frozen=True)
class TermFit:
    """One term, the axes along which the target's elements are chosen, and how it is fitted."""

    recipe: Recipe
    term: LinearTerm
    selections: Sequence[tuple[int, torch.Tensor]]
    settings: FitSettings

    def run(self, values: Mapping[str, torch.Tensor], samples: LayerSamples, intercept: bool) -> FittedTerm | None:
        """The fitted parameter; None where its elements are not each one unknown of one problem."""
        rectified = RectifiedRows() if self._is_cut_off(samples) else None
        found = self.equations(values, samples, _empty, rectified)
        if found is None:
            return None
        positions, fitted, held_out = found
        name = name_of(self.recipe, self.term)
        flat = values[name].detach().clone().contiguous().view(-1)
        inherited = flat[positions].double()
        solution, constants = fitted.fitted(held_out, inherited, self.settings.ridges, intercept), None
        if rectified is not None and rectified.channels is not None:
            solution = rectified.solve(inherited, solution, intercept, self.settings.refinements)
            constants = rectified.by_channel(solution.intercept)
        flat[positions.reshape(-1)] = solution.weight.reshape(-1).to(flat)
        rows, dropped = fitted.rows + held_out.rows, fitted.dropped + held_out.dropped
        return FittedTerm(name, flat.view(values[name].shape), solution, rows, dropped, constants)

    def dense(
        self,
        values: Mapping[str, torch.Tensor],
        samples: LayerSamples,
        intercept: bool,
        origins: Sequence[torch.Tensor],
    ) -> DenseFit | None:
        """What plain least squares finds, from any values of the parameter itself; None where it is not one problem.

        Args:
            values, samples, intercept: as `run`.
            origins: (unknowns, outputs) weights that the ridge may pull towards; the first one that is better than none
                is taken.
        """
        found = self.equations(values, replace(samples, bounds=None), _empty)
        if found is None or found[0].shape[0] != 1:
            return None
        positions, fitted, held_out = found
        none = torch.zeros(positions.shape, dtype=torch.float64, device=positions.device)
        pulls = [each[None].to(none) for each in origins if each.shape == none.shape[1:]]
        for pull in (*pulls, none):
            solution = fitted.fitted(held_out, pull, self.settings.ridges, intercept)
            if solution.before < 1:
                break
        both = fitted.joined(held_out)
        return DenseFit(solution, both, intercept, min(self.settings.ridges) * both.variance(intercept))

    def equations(
        self,
        values: Mapping[str, torch.Tensor],
        samples: LayerSamples,
        make: MakeEquations[EquationsT],
        rectified: RectifiedRows | None = None,
    ) -> tuple[torch.Tensor, EquationsT, EquationsT] | None:
        """Where the unknowns (block, unknown, output) lie in the parameter, the equations of the rows that are fitted,
        and those of the rows held out, which `make` begins; all rows go to `rectified` as well, if that is given.
        """
        equations = list[EquationsT]()
        positions = term_positions(self.recipe, self.term).to(samples.inputs[0].device)
        if bool((positions.reshape(-1).bincount() > 1).any()):
            return None
        share, count = 1.0, samples.inputs[0].shape[0]
        for number, (machine, (target, *bounds)) in enumerate(self._chunks(values, samples)):
            machine.enter(self.term.number)
            if not number:
                chunks = count / (machine.batch or count)
                share = self._share(machine, chunks, rectified is not None)
            picks = self._picks(machine, share, self.settings.seed + number)
            u, y = self._read(machine, picks), self._written(machine, target, picks)
            if rectified is not None:
                if not number:
                    rectified.channels = self._channels(machine, picks)
                rectified.add(u, y, *(self._written(machine, bound, picks) for bound in bounds))
            if not equations:
                shape = u.shape[0], u.shape[2], y.shape[2]
                equations = [make(shape, u.shape[1] * chunks, u.device) for _ in range(2)]
            equations[number % _HOLD_OUT == _HOLD_OUT - 1].add(u, y)
        if not any(each.rows for each in equations):
            return None
        return positions, equations[0], equations[1]

    def _is_cut_off(self, samples: LayerSamples) -> bool:
        """Whether a rectifier follows what the term adds up, so that it can be heeded."""
        (output,) = self.recipe.numbers("output")
        direct = self.recipe.statements[self.term.number].target.buffer == output
        heeded = samples.bounds is not None and self.settings.refinements > 0
        return heeded and direct and not later_statements(self.recipe, self.term)

    # -- chunks of images

    def _chunks(
        self, values: Mapping[str, torch.Tensor], samples: LayerSamples
    ) -> Iterator[tuple[Machine, list[torch.Tensor]]]:
        """Machines that have run all before the term, and what the term's buffer should get, flat; with the bounds
        outside which that does not matter, where a rectifier can be heeded.
        """
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
            bounds = samples.bounds if samples.bounds is not None and self._is_cut_off(samples) else ()
            targets = self._targets(machine, [each[begin : begin + step] for each in (samples.target, *bounds)])
            if targets is None:
                return
            yield machine, targets

    def _images(self, count: int) -> int:
        """How many samples make a chunk; enough chunks that some can be held out."""
        extents = self.recipe.statements[self.term.number].extent_of
        batch = self.recipe.batch_loops[self.term.number]
        used = [*self.term.blocks, *self.term.unknowns, *self.term.samples]
        each = math.prod(extents[n] for n in used if n != batch)
        others = max(math.prod(b.shape[1:]) for b in self.recipe.buffers if b.kind != "parameter")
        return max(1, min(-(-count // _HOLD_OUT), _CHUNK // max(1, each, others)))

    # -- what the term's buffer should get

    def _targets(self, machine: Machine, targets: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
        """What the term's buffer should get so that the output gets `targets`; of several ones only where the term adds
        to the output itself.
        """
        number = self.term.number
        buffer = self.recipe.statements[number].target.buffer
        (output,) = self.recipe.numbers("output")
        again = is_contracted_again(self.recipe, self.term)
        found = [self._selected(each, machine.shape(buffer if again else output)) for each in targets]
        wanted = [each for each in found if each is not None]
        if len(wanted) < len(found) or again:
            return wanted or None
        rest = range(number + 1, len(self.recipe.statements))
        others = replace(machine, held=dict(machine.held))
        others.statement(number, left_out=self.term.term)
        others.run(rest)
        differences = [each - others.flat(output) for each in wanted]
        if not later_statements(self.recipe, self.term) and buffer == output:
            return differences
        pulled = self._pulled_back(machine, rest, differences[0])
        return None if pulled is None else [pulled]

    def _pulled_back(self, machine: Machine, rest: range, difference: torch.Tensor) -> torch.Tensor | None:
        """The mean, over the output's elements that copy one element of the buffer, of what they should be."""
        buffer = self.recipe.statements[self.term.number].target.buffer
        (output,) = self.recipe.numbers("output")
        with torch.enable_grad():
            variable = machine.memory(buffer).detach().clone().requires_grad_(True)
            after = replace(machine, held={**machine.held, buffer: variable})
            after.run(rest)
            result = after.flat(output)
            if not result.requires_grad:
                return None
            (total,) = torch.autograd.grad(result, variable, difference, retain_graph=True)
            (copies,) = torch.autograd.grad(result, variable, torch.ones_like(difference))
        return torch.where(copies > 0, total / copies.clamp_min(1), torch.zeros_like(total)).reshape(-1)

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

    def _read(self, machine: Machine, picks: tuple[torch.Tensor, ...] | None) -> torch.Tensor:
        """u (blocks, rows, unknowns)."""
        term, extents = self.term, machine.extents
        u = _laid_out(self._source(machine), (*term.samples, *term.blocks, *term.unknowns), extents, picks)
        return u.reshape(-1, _size(term.blocks, extents), _size(term.unknowns, extents)).transpose(0, 1)

    def _written(self, machine: Machine, flat: torch.Tensor, picks: tuple[torch.Tensor, ...] | None) -> torch.Tensor:
        """y (blocks, rows, outputs), of what the term's buffer should get."""
        term, extents = self.term, machine.extents
        target = self.recipe.statements[term.number].target
        reader = replace(machine, held={**machine.held, target.buffer: flat.reshape(machine.shape(target.buffer))})
        y = _laid_out(reader.load(target), (*term.samples, *term.blocks, *term.outputs), extents, picks)
        return y.reshape(-1, _size(term.blocks, extents), _size(term.outputs, extents)).transpose(0, 1)

    def _channels(self, machine: Machine, picks: tuple[torch.Tensor, ...] | None) -> torch.Tensor | None:
        """Which channel of the layer's output each (block, output) is, int64; None where they are not one to one."""
        shape = machine.shape(self.recipe.statements[self.term.number].target.buffer)
        if len(shape) < 2:
            return None
        numbers = torch.arange(shape[1], device=machine.like.device, dtype=machine.like.dtype)
        each = numbers.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)
        laid = self._written(machine, each.reshape(-1), picks)
        found = laid[:, 0].long()
        alike = bool((laid == laid[:, :1]).all())
        return found if alike and torch.equal(found.reshape(-1).sort().values, numbers.long()) else None

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

    def _share(self, machine: Machine, chunks: float, kept: bool) -> float:
        """Which share of the rows is used, where there are so many times those of this chunk; fewer if all are kept."""
        unknowns, blocks = (_size(n, machine.extents) for n in (self.term.unknowns, self.term.blocks))
        wanted = math.inf if self.settings.rows is None else self.settings.rows * max(unknowns, _LEAST_UNKNOWNS)
        if kept:
            wanted = min(wanted, _KEPT / (unknowns * blocks))
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
