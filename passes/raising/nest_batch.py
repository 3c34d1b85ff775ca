"""Which axis of a recipe is the batch, so that it can run with any number of samples."""

from __future__ import annotations

from dataclasses import replace

from loopmorph.passes.raising import index_forms as forms
from loopmorph.passes.raising.index_forms import Form
from loopmorph.passes.raising.nest_normal import all_forms
from loopmorph.passes.raising.nest_recipe import Load, Recipe, Statement, loads, map_loads


def free_batch(recipe: Recipe) -> Recipe:
    """The recipe with `batch`, `batched` and `batch_loops` filled in where every sample is treated alike.

    That is so where one loop of each statement, of the example batch's extent, indexes axis 0 of the inputs, of the
    output and of the buffers between them, and indexes nothing else. With an example batch of 1 this loop has been
    dropped, all those indices are 0, and it is put back. Where it is not so the recipe is returned as it is, and
    runs with the example batch only.
    """
    return _free(recipe) or recipe


def free_rows(recipe: Recipe) -> Recipe:
    """As `free_batch`, of a linear layer, of which all axes but the last are the batch.

    Where that is needed a leading axis of extent 1 of which nothing but index 0 is read is left out: tokens may be rows
    of the result, and `(1, tokens, ...)` of what is read.
    """
    return _free(recipe) or _free(_without_unit_axes(recipe)) or recipe


def _free(recipe: Recipe) -> Recipe | None:
    inputs, outputs = recipe.numbers("input"), recipe.numbers("output")
    extents = {recipe.buffers[k].shape[:1] for k in (*inputs, *outputs)}
    if len(extents) != 1 or extents == {()} or not inputs:
        return None
    ((batch,),) = extents
    batched = _reached(recipe, frozenset((*inputs, *outputs)))
    if any(recipe.buffers[k].kind == "parameter" or recipe.buffers[k].shape[:1] != (batch,) for k in batched):
        return None
    statements: list[Statement] = []
    numbers: list[int | None] = []
    for statement in recipe.statements:
        number = None
        if statement.target.buffer in batched:
            if batch == 1:
                statement = _with_batch_loop(statement, batched)
            number = _batch_loop(statement, batched, batch)
            if number is None:
                return None
        statements.append(statement)
        numbers.append(number)
    return replace(recipe, statements=tuple(statements), batch=batch, batched=batched, batch_loops=tuple(numbers))


def _without_unit_axes(recipe: Recipe) -> Recipe:
    """The recipe without the first axis of activations where that has an extent of 1 and others have not."""
    accesses = [x for s in recipe.statements for x in (s.target, *loads(s.value))]
    own = [k for k, buffer in enumerate(recipe.buffers) if buffer.kind != "parameter" and len(buffer.shape) > 1]
    unit = {k for k in own if recipe.buffers[k].shape[0] == 1}
    unit -= {x.buffer for x in accesses if x.buffer in unit and x.index[0] != Form()}
    buffers = tuple(replace(b, shape=b.shape[1:]) if k in unit else b for k, b in enumerate(recipe.buffers))

    def reindexed(load: Load) -> Load:
        return Load(load.buffer, load.index[1:]) if load.buffer in unit else load

    statements = tuple(map_loads(statement, reindexed) for statement in recipe.statements)
    return replace(recipe, buffers=buffers, statements=statements)


def with_batch_axis(recipe: Recipe, written: frozenset[int] = frozenset()) -> Recipe:
    """The recipe of one example batch for any number of these: what depends on an input has one more axis, its first.

    Args:
        recipe: what one example batch is computed by.
        written: buffers that others write, which depend on the inputs as well.
    """
    batched = _reached(recipe, frozenset(recipe.numbers("input")) | written)
    buffers = tuple(replace(b, shape=(1, *b.shape)) if k in batched else b for k, b in enumerate(recipe.buffers))
    statements: list[Statement] = []
    numbers: list[int | None] = []
    for statement in recipe.statements:
        number = None
        if statement.target.buffer in batched:
            number = max(statement.loops, default=-1) + 1
            statement = _in_batch(statement, batched, number)
        statements.append(statement)
        numbers.append(number)
    loops = tuple(numbers)
    return Recipe(recipe.layer, buffers, tuple(statements), batch=1, batched=batched, batch_loops=loops)


def _in_batch(statement: Statement, batched: frozenset[int], number: int) -> Statement:
    """The statement in a loop of its own, which indexes a new axis of the batched buffers."""

    def indexed(load: Load) -> Load:
        return Load(load.buffer, (forms.loop(number), *load.index)) if load.buffer in batched else load

    marked = map_loads(statement, indexed)
    return replace(marked, loops=(number, *statement.loops), extents=(1, *statement.extents))


def _reached(recipe: Recipe, start: frozenset[int]) -> frozenset[int]:
    """The buffers that depend on the inputs."""
    reached = start
    while True:
        more = {s.target.buffer for s in recipe.statements if any(x.buffer in reached for x in loads(s.value))}
        if more <= reached:
            return reached
        reached |= more


def _with_batch_loop(statement: Statement, batched: frozenset[int]) -> Statement:
    """A new loop of extent 1 as index on axis 0 of the batched buffers, where that index is 0 now."""
    number = max(statement.loops, default=-1) + 1
    accesses = [statement.target, *loads(statement.value)]
    if any(x.index[0] != Form() for x in accesses if x.buffer in batched):
        return statement

    def indexed(load: Load) -> Load:
        return Load(load.buffer, (forms.loop(number), *load.index[1:])) if load.buffer in batched else load

    marked = map_loads(statement, indexed)
    return replace(marked, loops=(number, *statement.loops), extents=(1, *statement.extents))


def _batch_loop(statement: Statement, batched: frozenset[int], batch: int) -> int | None:
    """The loop that indexes axis 0 of the batched buffers and nothing else."""
    accesses = [x for x in (statement.target, *loads(statement.value)) if x.buffer in batched]
    terms = {x.index[0] for x in accesses}
    for number, extent in statement.extent_of.items():
        if extent == batch and terms == {forms.loop(number)}:
            uses = sum(number in forms.used_loops(f) for f in all_forms(statement))
            return number if uses == len(accesses) else None
    return None
