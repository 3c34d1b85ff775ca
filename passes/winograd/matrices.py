"""The matrices of Winograd's minimal filtering for a 3x3 kernel (Lavin & Gray 2016, arXiv 1509.09308, section 4).

A tile of outputs is `Y = A^T [ (G g G^T) * (B^T d B) ] A` with d the inputs that it reads, g the kernel and `*` the
product element by element. F(2x2,3x3) interpolates at 0, 1, -1 and infinity, F(4x4,3x3) also at 2 and -2.

With stride 2, inputs at even places meet the first and the last weight alone, those at odd places the middle one: along
an axis, two outputs are F(2,2) of the even places, which interpolates at 0, 1 and infinity, and two products at the odd
ones, so 5 in place of 6 (the polyphase decomposition; P. P. Vaidyanathan, Multirate Systems and Filter Banks, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Matrix = tuple[tuple[float, ...], ...]

KERNEL = 3


@dataclass(frozen=True)
class Winograd:
    """F(tile x tile, 3x3) of windows that move by `stride`.

    Attributes:
        stride: by how much the window moves from one output to the next, along each of the two axes.
        tile: extent of a tile of outputs along each of them.
        data: B^T, reach x reach.
        kernel: G, reach x 3.
        result: A^T, tile x reach.
    """

    stride: int
    tile: int
    data: Matrix
    kernel: Matrix
    result: Matrix

    @property
    def reach(self) -> int:
        """Extent of the inputs that a tile of outputs reads, along each axis; its square is the number of products."""
        return reach(self.stride, self.tile)


def reach(stride: int, outputs: int) -> int:
    """Extent of the inputs that so many outputs next to one another read."""
    return stride * (outputs - 1) + KERNEL


_F2 = Winograd(
    1,
    2,
    data=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    result=((1, 1, 1, 0), (0, 1, -1, -1)),
)
_F4 = Winograd(
    1,
    4,
    data=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    kernel=(
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    result=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)

_STRIDED_F2 = Winograd(
    2,
    2,
    data=((1, 0, -1, 0, 0), (0, 0, 1, 0, 0), (0, 0, -1, 0, 1), (0, 1, 0, 0, 0), (0, 0, 0, 1, 0)),
    kernel=((1, 0, 0), (1, 0, 1), (0, 0, 1), (0, 1, 0), (0, 1, 0)),
    result=((1, 1, 0, 1, 0), (0, 1, 1, 0, 1)),
)

# By stride, then by tile.
ALGORITHMS: Mapping[int, Mapping[int, Winograd]] = {1: {2: _F2, 4: _F4}, 2: {2: _STRIDED_F2}}
