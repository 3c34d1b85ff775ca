"""Names of iterators, read off what they index: the same for every layout of a convolution, pool or product.

Of an operation `output[..] += data[..] * weight[..]`, the weight left out in a pool:

    name           output  data  weight
    n                x      x               the first of them
    oh, ow, od       x      x               together with a window: `data[.. oh * 2 + kh ..]`
    oh, ow, od       x      x               the further ones where there is no window (a 1x1 convolution)
    c                x      x               the further ones of a pool
    co               x             x
    g                x      x      x        groups, which have `co` or `ci` beside; without these `c` (depthwise)
    b                x      x      x        where there is no window: a batch of products
    ci                      x      x
    kh, kw, kd              x      (x)      moves along the data together with `oh`, `ow`, `od`

What an operation without a window and without a reduction over two operands computes tells nothing: its iterators are
named by their number, (n, c, h, w).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Iterator names of everything else, by the number of iterators.
ITERATORS_BY_RANK = {
    0: (),
    1: ("c",),
    2: ("n", "c"),
    3: ("n", "c", "w"),
    4: ("n", "c", "h", "w"),
    5: ("n", "c", "d", "h", "w"),
}
_AXES = {1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")}
_LABELS = {"ci": "c", "co": "c"} | {f"{kind}{axis}": axis for kind in "ok" for axis in "dhw"}

Index = Sequence[frozenset[int]]  # the dimensions that each axis of an operand is indexed by


def names_by_rank(rank: int) -> tuple[str, ...]:
    """Names that tell nothing but the order."""
    return ITERATORS_BY_RANK.get(rank) or tuple(f"i{d}" for d in range(rank))


def names_by_use(rank: int, output: Index, operands: Sequence[Index]) -> tuple[str, ...] | None:
    """The names of a convolution's, pool's or product's iterators; None for another operation.

    Args:
        rank: the number of iterators; they are the dimensions 0 .. rank - 1.
        output: how the output is indexed.
        operands: how the operands are, each once, without the output.
    """
    reduced = frozenset(range(rank)) - _used(output)
    operands = [operand for operand in operands if operand]
    if not reduced or not operands or len(operands) > 2 or not all(len(axis) <= 1 for axis in output):
        return None
    windows = [_windows(operand, reduced) for operand in operands]
    first = 1 if len(operands) == 2 and windows[1] and not windows[0] else 0
    data, weight, window = operands[first], operands[1 - first] if len(operands) == 2 else None, windows[first]
    if weight is None and not window:
        return None
    return _named(rank, output, _used(data), None if weight is None else _used(weight), window)


def axis_label(names: Sequence[str]) -> str:
    """What an axis is that iterators of these names index: `oh` and `kh` run along h, `ci` and `co` along c."""
    labels = {_LABELS.get(name, name) for name in names}
    return labels.pop() if len(labels) == 1 else ""


def distinct(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The names, the second of a kind with a 2 behind it, the third with a 3; none is one of `taken`."""
    met, found = set(taken), []
    for name in names:
        number, candidate = 1, name
        while candidate in met:
            number += 1
            candidate = f"{name}{number}"
        met.add(candidate)
        found.append(candidate)
    return found


def _named(
    rank: int, output: Index, data: frozenset[int], weight: frozenset[int] | None, window: dict[int, int]
) -> tuple[str, ...] | None:
    ordered = [d for axis in output for d in axis]
    sliding = list(dict.fromkeys(d for d in ordered if d in window.values()))
    plain = [d for d in ordered if d not in sliding and d in data and (weight is None or d not in weight)]
    names: dict[int, str] = {}
    if weight is not None and not window:
        sliding = plain[1:]
    elif weight is None:
        names.update(dict.fromkeys(plain[1:], "c"))
    else:
        names.update(dict.fromkeys(plain[1:], "n"))
    if len(sliding) > len(_AXES):
        return None
    axes = dict(zip(sliding, _AXES.get(len(sliding), ()), strict=True))
    names.update({d: f"o{axis}" for d, axis in axes.items()})
    names.update({k: f"k{axes[d]}" for k, d in window.items()})
    names.update(dict.fromkeys(plain[:1], "n"))
    if weight is not None:
        names.update(_shared(ordered, data, weight, window, rank))
    if len(names) != rank:
        return None
    return tuple(distinct(names[d] for d in range(rank)))


def _shared(
    ordered: Sequence[int], data: frozenset[int], weight: frozenset[int], window: dict[int, int], rank: int
) -> dict[int, str]:
    """The names of what indexes the weight, but for windows."""
    outputs = [d for d in ordered if d in weight and d not in data]
    inputs = [d for d in range(rank) if d in weight and d in data and d not in ordered and d not in window]
    both = [d for d in ordered if d in weight and d in data and d not in window.values()]
    common = ("g" if outputs or inputs else "c") if window else "b"
    return {**dict.fromkeys(outputs, "co"), **dict.fromkeys(inputs, "ci"), **dict.fromkeys(both, common)}


def _windows(operand: Index, reduced: frozenset[int]) -> dict[int, int]:
    """Each dimension that moves along an axis of the operand together with one of the output's, and that one."""
    found: dict[int, int] = {}
    for axis in operand:
        outer = axis - reduced
        if len(outer) == 1 and len(axis) > 1:
            found.update(dict.fromkeys(axis & reduced, next(iter(outer))))
    return found


def _used(index: Index) -> frozenset[int]:
    return frozenset(d for axis in index for d in axis)
