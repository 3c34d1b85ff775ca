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
    inputs, outputs = recipe.numbers("input"), recipe.numbers("output")
    extents = {recipe.buffers[k].shape[:1] for k in (*inputs, *outputs)}
    if len(extents) != 1 or extents == {()} or not inputs:
        return recipe
    ((batch,),) = extents
    batched = _reached(recipe, frozenset((*inputs, *outputs)))
    if any(recipe.buffers[k].kind == "parameter" or recipe.buffers[k].shape[:1] != (batch,) for k in batched):
        return recipe
    statements: list[Statement] = []
    numbers: list[int | None] = []
    for statement in recipe.statements:
        number = None
        if statement.target.buffer in batched:
            if batch == 1:
                statement = _with_batch_loop(statement, batched)
            number = _batch_loop(statement, batched, batch)
            if number is None:
                return recipe
        statements.append(statement)
        numbers.append(number)
    return replace(recipe, statements=tuple(statements), batch=batch, batched=batched, batch_loops=tuple(numbers))


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
