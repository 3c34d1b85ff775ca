"""Which variants need not be measured on equal blocks, going by the first of these."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopmorph.pipelines.search.variants.dominance import undominated
from loopmorph.pipelines.search.variants.table import Variant

MARGIN = 2.0  # what a variant does is seldom off by more than this factor from block to equal block


def beaten(variants: Sequence[Variant]) -> list[bool]:
    """For each variant, whether another one decides no other layers, takes no more time, parameters and memory, and
    does less harm by a factor of `MARGIN`.

    Those that survive are as many as a few for each saving, of which a block that is equal, but for its weights, is
    trusted to need no other.

    Args:
        variants: of some blocks, all that were measured of each.
    """
    costs = [(each.change.milliseconds, each.change.parameters, each.change.memory) for each in variants]
    own = np.array([(*cost, each.loss) for cost, each in zip(costs, variants, strict=True)]).reshape(-1, 4)
    as_rivals = own * (1, 1, 1, MARGIN)
    count = len(variants)
    layers = [each.layers for each in variants]
    left = undominated(layers * 2, np.vstack([own, as_rivals]), never=range(count), always=range(count, 2 * count))
    return [not is_left for is_left in np.isin(range(count), left).tolist()]
