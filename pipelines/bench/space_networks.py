"""Rewritten ResNets whose accuracy after training is known: from their specifications to programs, by our own passes.

A specification has three entries for each residual block: the operator of its first convolution, that of its second,
and the bottleneck of its inside. The operators:

    full            the convolution as it is
    gK              K groups
    dw              as many groups as both numbers of channels allow
    seq1            two halves of the outputs, in 2 and 4 groups
    seq2            16 outputs of all inputs, the others in 2 groups of the inputs from 16 on
    seq3            two bands of rows with weights of their own (in training each was padded by itself)
    sp2             half the grid, each element repeated
    in2             the first half of the inputs
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from loopmorph.passes.errors import ArgumentError, DataError
from loopmorph.pipelines.network import Network
from loopmorph.pipelines.schedules.loader import load_schedule

NetworkT = TypeVar("NetworkT", bound=Network)

_FULL_OUTPUTS = 16  # of seq2
_FIRST, _SECOND = "conv1", "conv2"


@dataclass(frozen=True)
class SpaceRow:
    """One network of a file.

    Attributes:
        name: its index or name there.
        specification: (operator of conv1, operator of conv2, bottleneck) of each block.
        accuracy: per cent on the test images, after training.
        kl: joint KL of the repaired network, as the file has it; None where it has none.
    """

    name: str
    specification: tuple[tuple[str, str, int], ...]
    accuracy: float
    kl: float | None = None

    @property
    def is_original(self) -> bool:
        """Whether nothing is rewritten."""
        return all(entry == ("full", "full", 1) for entry in self.specification)


def read_space(path: Path) -> list[SpaceRow]:
    """The networks of a file of JSON lines with `idx`, `spec` and `acc`.

    Raises:
        DataError: the file cannot be read, or a line is something else; says which.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            specification = tuple((str(a), str(b), int(c)) for a, b, c in content["spec"])
            rows.append(SpaceRow(str(content["idx"]), specification, float(content["acc"]), content.get("kl")))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path}:{number}: expected an object with 'idx', 'spec' and 'acc'") from error
    return rows


def rewritten(original: NetworkT, specification: Sequence[tuple[str, str, int]]) -> NetworkT:
    """The network of a specification.

    Args:
        original: a residual network of as many blocks of two convolutions, `conv1` and `conv2`, as there are entries.
        specification: see the module.

    Raises:
        ArgumentError: another number of blocks, or an unknown operator.
        IllegalTransform: a block does not admit its operator.
    """
    blocks = [layer.name.rpartition(".")[0] for layer in original.layers if layer.name.endswith(f".{_FIRST}")]
    if len(blocks) != len(specification):
        raise ArgumentError("specification", f"it has {len(specification)} blocks, the network {len(blocks)}")
    program = original
    for block, (first, second, bottleneck) in zip(blocks, specification, strict=True):
        if bottleneck > 1:
            program = program.apply(f"morph-bottleneck{{layer={block}.{_FIRST} iter=co factor={bottleneck}}}")
        for layer, operator in ((f"{block}.{_FIRST}", first), (f"{block}.{_SECOND}", second)):
            for text in _steps(program, layer, operator):
                program = program.apply(text)
    return program


def _steps(program: Network, layer: str, operator: str) -> Iterator[str]:
    if operator.startswith("g") and operator[1:].isdigit():
        yield f"morph-group{{layer={layer} iters=co,ci factor={operator[1:]}}}"
    elif operator == "dw":
        yield f"morph-group{{layer={layer} iters=co,ci factor={_common(program, layer)}}}"
    elif operator == "seq1":
        yield load_schedule("seq1", layer=layer)
    elif operator == "seq2":
        yield load_schedule("seq2", layer=layer, u=_FULL_OUTPUTS)
    elif operator == "seq3":
        yield load_schedule("seq3", layer=layer)
    elif operator == "sp2":
        yield f"morph-bottleneck{{layer={layer} iter=oh factor=2}},morph-bottleneck{{layer={layer} iter=ow factor=2}}"
    elif operator == "in2":
        yield f"morph-bottleneck{{layer={layer} iter=ci factor=2}}"
    elif operator != "full":
        known = "full, gK, dw, seq1, seq2, seq3, sp2 or in2"
        raise ArgumentError("specification", f"'{operator}' is no operator; {known} is expected")


def _common(program: Network, layer: str) -> int:
    extents: dict[str, Any] = dict(next(each for each in program.layers if each.name == layer).extents)
    return math.gcd(extents["co"], extents["ci"])
