"""A depthwise term and the mix after it, fitted as one: each input channel's part of a dense weight has rank one.

`argmin |sum_c m_c (d_c . u_c) - y|^2`, `u_c` the elements that are read of channel c: with W the best dense weight and
`G = E[u u^T]` that is the least `tr (W - W')^T G (W - W')` over `W'_c = d_c m_c^T`. If the channels were uncorrelated,
the leading singular vectors of each `G_cc^(1/2) W_c` would be it (the rank-one tensor decomposition of Guo, Li, Lin and
Tan, "Network Decoupling", BMVC 2018, here in the metric of what is read); from there the depthwise and the mixing
weights are solved for in turn, each exactly, so that the error never grows.
"""

from __future__ import annotations

import torch

from loopmorph.pipelines.oracle.repair.normal_equations import solved

LARGEST = 8192  # unknowns of a dense weight: its Gram matrix then takes 512 MiB
_ROUNDS = 4
_RIDGE = 1e-9


def separable_factors(weight: torch.Tensor, gram: torch.Tensor, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Depthwise and mixing weights that come near a dense weight.

    Args:
        weight: (channels * taps, outputs) float64, W^T.
        gram: (channels * taps, channels * taps) the second moments of what is read, with any ridge; all is computed
            in its type.
        channels: how many are read.

    Returns:
        The depthwise weights, (channels, taps), and the mixing weights, (channels, outputs); float64.
    """
    weight = weight.to(gram)
    taps, outputs = len(weight) // channels, weight.shape[1]
    parts, blocks = weight.reshape(channels, taps, outputs), gram.reshape(channels, taps, channels, taps)
    cross = (gram @ weight).reshape(channels, taps, outputs)
    values, vectors = torch.linalg.eigh(blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    roots = vectors * values.clamp_min(0).sqrt()[:, None, :]
    directions = torch.linalg.svd(roots.transpose(1, 2) @ parts, full_matrices=False)[2][:, 0]
    depthwise = (parts * directions[:, None]).sum(2)
    mixing = _mixing(depthwise, blocks, cross)
    for _ in range(_ROUNDS):
        alike = (mixing @ mixing.T)[:, None, :, None]
        system = (blocks * alike).reshape(gram.shape)
        right = (cross * mixing[:, None]).sum(2).reshape(-1, 1)
        depthwise = solved(system[None], right[None], _RIDGE)[0].reshape(channels, taps).to(gram)
        mixing = _mixing(depthwise, blocks, cross)
    return depthwise.double(), mixing.double()


def _mixing(depthwise: torch.Tensor, blocks: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The best mixing weights for some depthwise ones."""
    half = (depthwise[:, None] @ blocks.flatten(2))[:, 0].unflatten(1, blocks.shape[2:])
    gram = (half * depthwise).sum(2)
    right = (depthwise[:, :, None] * cross).sum(1)
    return solved(gram[None], right[None], _RIDGE)[0].to(gram)
