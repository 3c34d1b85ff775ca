"""`morph-parallelize-all`: a parallel loop for every nest that admits one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.parallelize import parallel_loop, require_parallel
from loopmorph.passes.nest import Loop, Nest, functions, nest_roots, view_nest

_GOOD_BALANCE = Fraction(9, 10)


@dataclass(frozen=True)
class ParallelizeAll(Pass):
    """Marks a loop of every nest as `morph-parallelize` does: `morph-parallelize-all{threads=2}`.

        affine.for %n = 0 to 1 {                           affine.for %n = 0 to 1 {
          affine.for %co = 0 to 64 {                          affine.for %co = 0 to 64 {
            affine.for %ci = 0 to 3 { ... }         ->          affine.for %ci = 0 to 3 { ... }
          } {morph.iter = "co"}                               } {morph.iter = "co", morph.parallel}
        } {morph.iter = "n"}                                } {morph.iter = "n"}

    Of the loops that can be cut, the outermost one of which at least 9 of 10 threads' time is used, else the one of
    which most is used; a loop of E iterations uses E / (N * ceil(E / N)). Nests in which no loop can be cut stay as
    they are. A nest that has a marked loop keeps it, after a check that transformations have left it independent; the
    mark of a loop of one iteration counts for nothing.

    Requires nothing.

    Options:
        threads: the number of threads N to balance for.
        function: the function whose nests are meant; all by default.
    """

    name: ClassVar[str] = "morph-parallelize-all"
    threads: int
    function: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threads < 1:
            raise ArgumentError("threads", f"expected a positive number, got {self.threads}")

    def run(self, module: ir.Operation) -> None:
        with module.context:
            wanted = {f.name.value for f in functions(module)} if self.function is None else {self.function}
            chosen: list[Loop] = []
            useless: list[Loop] = []
            for root in nest_roots(module):
                if root.operation.parent.opview.name.value not in wanted:
                    continue
                nest = view_nest(root)
                marked = parallel_loop(nest)
                if marked is not None and marked.extent != 1:
                    require_parallel(nest, marked)
                else:
                    chosen += _best(nest, self.threads)
                    useless += [] if marked is None else [marked]
            for loop in useless:
                del loop.op.attributes[marks.PARALLEL]
            for loop in chosen:
                loop.op.attributes[marks.PARALLEL] = ir.UnitAttr.get()


def _best(nest: Nest, threads: int) -> list[Loop]:
    """The loop to cut, or nothing."""
    shares = {loop.position: _share(loop.extent, threads) for loop in nest.loops if (loop.extent or 0) > 1}
    good = [p for p, share in shares.items() if share >= _GOOD_BALANCE]
    others = sorted((p for p in shares if p not in good), key=lambda p: (-shares[p], p))
    for position in [*good, *others]:
        if _is_parallel(nest, nest.loops[position]):
            return [nest.loops[position]]
    return []


def _share(extent: int | None, threads: int) -> Fraction:
    """The part of the threads' time in which they work, if the iterations take equally long."""
    return Fraction(extent, threads * -(-extent // threads)) if extent else Fraction(0)


def _is_parallel(nest: Nest, loop: Loop) -> bool:
    try:
        require_parallel(nest, loop)
    except IllegalTransform:
        return False
    return True
