"""What a nest says of how to schedule it: an algorithm and a register block, as attributes of its outermost loop.

`morph-default-schedule` follows them; what a nest does not say, its models decide. They are set by `morph-choose`, by
hand in a .mlir file, or by tuning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from loopmorph.passes import marks
from loopmorph.passes.errors import IllegalTransform, first_of
from loopmorph.passes.nest import Nest

DIRECT = "direct"
WINOGRAD_TILES = {"winograd2": 2, "winograd4": 4}
ALGORITHMS = (DIRECT, *WINOGRAD_TILES)

_BLOCK = re.compile(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)")
_COUNT = re.compile(r"[1-9]\d*")
_SHOWN = 12


@dataclass(frozen=True)
class Choice:
    """How a contraction nest is to be computed; None leaves it to the model.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        block: "ROWSxCOLUMNSxBLOCKS" (see `RegisterBlock`).
        samples: how many images a winograd algorithm computes at a time.
    """

    algorithm: str | None = None
    block: str | None = None
    samples: int | None = None


def algorithm_name(tile: int | None) -> str:
    """The algorithm with Winograd tiles of that extent, "direct" for None."""
    return DIRECT if tile is None else f"winograd{tile}"


def block_text(block: RegisterBlock) -> str:
    """A register block as the attribute spells it: "1x4x4"."""
    return f"{block.rows}x{block.columns}x{block.blocks}"


def check_algorithm(text: str) -> str:
    """What is wrong with the name of an algorithm; empty if nothing is."""
    return "" if text in ALGORITHMS else f"expected one of {', '.join(ALGORITHMS)}, got '{text}'"


def check_block(text: str) -> str:
    """What is wrong with the text of a register block; empty if nothing is."""
    return "" if _BLOCK.fullmatch(text) else f"expected ROWSxCOLUMNSxBLOCKS such as 1x4x4, got '{text}'"


def check_samples(text: str) -> str:
    """What is wrong with the text of a number of images; empty if nothing is."""
    return "" if _COUNT.fullmatch(text) else f"expected a number of images from 1 on, got '{text}'"


def read_choice(nest: Nest) -> Choice:
    """What the nest says.

    Raises:
        IllegalTransform: an attribute is malformed; says what is accepted.
    """
    checks = {marks.ALGORITHM: check_algorithm, marks.BLOCK: check_block, marks.SAMPLES: check_samples}
    for name, check in checks.items():
        if name in nest.root.attributes:
            problem = check(marks.get_text(nest.root, name))
            if problem:
                raise IllegalTransform(nest.label, f"{name}: {problem}")
    algorithm, block, samples = (marks.get_text(nest.root, name) or None for name in checks)
    return Choice(algorithm, block, None if samples is None else int(samples))


def refuse_choice(nest: Nest) -> None:
    """Raises:
    IllegalTransform: the nest says how it is to be scheduled; it is one that has no schedule of its own.
    """
    if read_choice(nest) != Choice():
        reason = "a choice is for a layer with one main nest, which accumulates products; this one has none to make"
        raise IllegalTransform(nest.label, reason)


def chosen_block(label: str, choice: Choice, blocks: Sequence[RegisterBlock]) -> RegisterBlock:
    """The register block that a nest asks for, the first where it asks for none.

    Args:
        label: how the message names the nest.
        choice: what the nest says.
        blocks: those that fit, the best by the model first.

    Raises:
        IllegalTransform: it asks for one that does not fit; lists those that do.
    """
    if choice.block is None:
        return blocks[0]
    fitting = {block_text(block): block for block in blocks}
    if choice.block not in fitting:
        accepted = first_of(list(fitting), _SHOWN)
        raise IllegalTransform(label, f"the register block {choice.block} does not fit; these do: {accepted}")
    return fitting[choice.block]


@dataclass(frozen=True)
class RegisterBlock:
    """Factors by which a schedule unrolls and jams.

    Attributes:
        rows: of the second pixel iterator (1 where there is none).
        columns: of the innermost pixel iterator.
        blocks: of the last block iterator (vectors of output channels).
    """

    rows: int
    columns: int
    blocks: int

    @property
    def accumulators(self) -> int:
        return self.rows * self.columns * self.blocks

    @property
    def registers(self) -> int:
        """Vector registers that the body takes. LLVM loads an operand that several multiply-adds share ahead of all of
        them; one that a single multiply-add uses it reads from memory.
        """
        pixels = self.rows * self.columns
        operands = pixels + self.blocks if min(pixels, self.blocks) > 1 else 2
        return self.accumulators + operands
