"""What nests over chunks of images need before and after their own schedules."""

from __future__ import annotations

from collections.abc import Sequence

from loopmorph.passes.history import Step
from loopmorph.passes.loop.split import Split
from loopmorph.passes.nest import Nest


def chunk_schedule(nest: Nest, addresses: Sequence[str], threads: int) -> tuple[list[Step], tuple[str, ...]]:
    """What Winograd's nests over chunks of images need ahead of all else.

    Args:
        nest: the products.
        addresses: theirs, and those of the transforms.
        threads: how many threads share the chunks.

    Returns:
        The steps that give each thread an iteration of an outermost loop, and the iterators over chunks.
    """
    chunks = nest.loops[0]
    each, rest = divmod(chunks.extent or 1, threads)
    if threads == 1 or rest or each == 1:
        return [], (chunks.iterator,)
    name = chunks.iterator
    return [Split(address, name, each) for address in addresses], (f"{name}.0", f"{name}.1")


def is_fused(chunks: Sequence[str], threads: int) -> bool:
    """Whether the nests over chunks with these iterators become one: what fused ones share is each thread's own."""
    return len(chunks) == (1 if threads == 1 else 2)
