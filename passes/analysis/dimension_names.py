"""Dimensions of transformers by name, through whatever reshapes and transposes: heads, features, hidden units.

The iterators of one nest tell only a part of them: a projection for queries, keys and values has one `co` for three
times heads times features. They are told by what the program does with them:

    name      runs over
    head      what both products of an attention have in all operands: scores `q . k`, and their sum with the values
    feature   what the scores sum over: features of queries and keys
    value     features of the values, which the output projection reads
    hidden    what one linear layer writes and linear layers alone read, whatever is computed of each by itself between
    token     rows that share the parameters of the layers around an attention; `token2` those that are attended to

A name is understood wherever a layer's nests go along its dimension; what is changed is the dimension as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.coupling.sums import is_product
from loopmorph.passes.analysis.coupling.tied_loops import tied_loops
from loopmorph.passes.analysis.roles import indexes_parameter, is_reduction, loops_of, reduction_loops
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.nest import Access, Loop, Nest

HEAD, FEATURE, VALUE, HIDDEN, TOKEN, TOKEN2 = NAMES = ("head", "feature", "value", "hidden", "token", "token2")


@dataclass(frozen=True)
class NamedDimension:
    """A dimension with a name.

    Attributes:
        name: one of `NAMES`.
        nest: a nest that goes along it.
        loop: its loop that does, and nothing else.
        layers: the layers whose nests go along it.
    """

    name: str
    nest: Nest
    loop: Loop
    layers: frozenset[str]


@dataclass(frozen=True)
class Attention:
    """The two products of an attention: `scores[h, q, k] += a[h, q, f] * b[h, k, f]`, `context[h, q, v] += p * c`."""

    scores: Nest
    context: Nest
    weights: Access


def find_loop(module: ir.Operation, address: str, name: str, argument: str = "iter") -> tuple[Nest, Loop]:
    """The loop that an iterator's name stands for at a nest: one of its own, else of a named dimension.

    Args:
        module: the module.
        address: the nest's (see `loopmorph.passes.address`).
        name: of one of its iterators, or one of `NAMES`.
        argument: what error messages call it.

    Returns:
        The nest that has the loop, which is another one where the dimension is only a part of an iterator at the
        address, and the loop.

    Raises:
        ArgumentError: no such nest, or no such iterator there.
    """
    nest = find_nest(module, address)
    if name in nest.iterators or name not in NAMES:
        return nest, nest.loop(name, argument)
    found = []
    for each in named_dimensions(ProgramAccesses(module)):
        if nest.layer in each.layers:
            found.append(each)
            if each.name == name:
                return each.nest, each.loop
    known = ", ".join(dict.fromkeys(each.name for each in found))
    own = f"the iterators there are {', '.join(nest.iterators)}"
    reason = f"{nest.label} goes along no dimension '{name}'; {own}" + (f", the dimensions {known}" if known else "")
    raise ArgumentError(argument, reason)


def named_dimensions(program: ProgramAccesses) -> Iterator[NamedDimension]:
    """The dimensions of a program that have names, those of attentions first, each in program order."""
    for each in find_attentions(program):
        yield from _of_attention(program, each)
    yield from _hidden(program)


def find_attentions(program: ProgramAccesses) -> list[Attention]:
    """The attentions of a program: pairs of products of activations, of which one is made of the other's result."""
    products = {nest.root.operation: nest for nest in program.nests if _product_loop(nest) is not None}
    found = []
    for context in products.values():
        for operand in _operands(context):
            for writer in _made_of(program, operand.memref, context):
                if writer.root.operation in products:
                    found.append(Attention(products[writer.root.operation], context, operand))
    return found


def _of_attention(program: ProgramAccesses, each: Attention) -> Iterator[NamedDimension]:
    scores, context = each.scores, each.context
    feature, summed = _product_loop(scores), _product_loop(context)
    value = [loop for loop in _result_loops(context) if loop.position not in each.weights.dims]
    heads = [loop for loop in _result_loops(scores) if _is_shared(scores, loop)]
    places = [(HEAD, *_alone(program, scores, loop)) for loop in heads]
    places += [(FEATURE, scores, feature)] if feature is not None else []
    places += [(VALUE, context, loop) for loop in value]
    layers = frozenset(n.layer for _, nest, loop in places for n, _ in tied_loops(program, nest, loop))
    layers |= {scores.layer, context.layer}
    rows = [loop for loop in _result_loops(context) if loop not in value and not _is_shared(context, loop)]
    places += [(TOKEN, context, loop) for loop in rows] + [(TOKEN2, context, summed) for _ in rows[:1] if summed]
    for name, nest, loop in places:
        yield NamedDimension(name, nest, loop, layers)


def _alone(program: ProgramAccesses, nest: Nest, loop: Loop) -> tuple[Nest, Loop]:
    """A loop over the heads alone: where that of the product goes over samples and heads, one of what it reads."""
    for load in _operands(nest):
        for axis in range(len(load.exprs)):
            relation = program.tie(nest, load, axis)
            if relation.kind == "trailing" and relation.loops == (loop.position,):
                for writer, access in program.accesses[load.memref]:
                    own = program.tie(writer, access, axis)
                    if access.kind == "store" and own.kind == "digits" and len(own.loops) == 1:
                        return writer, writer.loops[own.loops[0]]
    return nest, loop


def _hidden(program: ProgramAccesses) -> Iterator[NamedDimension]:
    for nest in program.nests:
        outputs = loops_of(nest, "output") if _is_linear(nest) else []
        for loop in outputs if len(outputs) == 1 else []:
            tied = tied_loops(program, nest, loop)
            readers = [(n, own) for n, own in tied if is_reduction(n, own.position)]
            writers = [n for n, own in tied if _is_linear(n) and not is_reduction(n, own.position)]
            alike = all(_is_linear(n) and indexes_parameter(n, own.position) for n, own in readers)
            if readers and alike and len(writers) == 1:
                yield NamedDimension(HIDDEN, nest, loop, frozenset(n.layer for n, _ in tied))


def _is_linear(nest: Nest) -> bool:
    """Whether a nest contracts a parameter over one axis: no convolution over a window."""
    reductions = reduction_loops(nest)
    main = nest.role == marks.MAIN and len(reductions) == 1
    return main and indexes_parameter(nest, reductions[0].position)


def _made_of(program: ProgramAccesses, memref: ir.Value, reader: Nest) -> Iterator[Nest]:
    """The products that something is made of, with no contraction between."""
    seen, pending = {memref}, [memref]
    while pending:
        for writer, access in program.accesses[pending.pop()]:
            if access.kind == "load" or writer.root.operation == reader.root.operation:
                continue
            if _product_loop(writer) is not None:
                yield writer
            elif not any(indexes_parameter(writer, loop.position) for loop in reduction_loops(writer)):
                new = [load.memref for load in writer.loads if load.memref not in seen]
                seen.update(new)
                pending += new


def _product_loop(nest: Nest) -> Loop | None:
    """The loop that a product of two activations is summed over."""
    if nest.role != marks.MAIN or any(marks.parameter_name(load.memref) is not None for load in nest.loads):
        return None
    found = reduction_loops(nest)
    return found[0] if len(found) == 1 and is_product(nest, found[0]) else None


def _operands(nest: Nest) -> Sequence[Access]:
    stored = {store.memref for store in nest.stores}
    return [load for load in nest.loads if load.memref not in stored]


def _result_loops(nest: Nest) -> list[Loop]:
    return [loop for loop in nest.loops if not is_reduction(nest, loop.position) and loop.extent != 1]


def _is_shared(nest: Nest, loop: Loop) -> bool:
    return all(loop.position in load.dims for load in _operands(nest))
