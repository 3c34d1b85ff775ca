"""Which variants are beaten by far, so that they need not be measured on equal blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joint_tables import variant

from loopmorph.pipelines.search.variants.sieve import MARGIN, beaten
from loopmorph.pipelines.search.variants.table import Variant


@pytest.mark.parametrize(
    ("other", "is_beaten"),
    [
        (variant("c1 c2", -2.0, 0.39 / MARGIN), True),
        (variant("c1", -2.1, 0.4 / MARGIN), True),  # decides less
        (variant("c1 c2", -2.0, 0.41 / MARGIN), False),  # does less harm, but not by so much
        (variant("c1 c2", -1.9, 0.0), False),  # is slower
        (variant("c1 c2 c3", -2.0, 0.0), False),  # decides more
        (variant("c1 c2", -2.0, 0.0, parameters=1), False),
        (variant("c1 c2", -2.0, 0.0, memory=1), False),
    ],
)
def test_what_beats_a_variant(other: Variant, is_beaten: bool) -> None:
    assert beaten([variant("c1 c2", -2.0, 0.4), other]) == [is_beaten, False]
    assert beaten([other, variant("c1 c2", -2.0, 0.4)]) == [False, is_beaten]


def test_of_equals_and_of_none_nothing_is_beaten() -> None:
    assert beaten([]) == []
    assert beaten([variant("c1", -1.0, 0.0), variant("c1", -1.0, 0.0)]) == [False, False]
    assert beaten([variant("c1", -1.0, 0.1)] * 3) == [False] * 3


VARIANTS = st.builds(
    variant,
    st.sampled_from(["c1", "c2", "c1 c2"]),
    st.sampled_from([-3.0, -2.0, -1.0]),
    st.sampled_from([0.0, 0.1, 0.2, 0.4]),
    parameters=st.sampled_from([-10, 0]),
)


@given(st.lists(VARIANTS, max_size=8))
def test_what_beats_a_variant_is_not_beaten_itself(variants: list[Variant]) -> None:
    """So something is left that stands for each variant."""
    out = beaten(variants)
    for each, is_out in zip(variants, out, strict=True):
        rivals = [other for other, gone in zip(variants, out, strict=True) if not gone]
        assert not is_out or any(_is_no_worse(other, each) for other in rivals)


def _is_no_worse(other: Variant, each: Variant) -> bool:
    costs = [
        (v.change.milliseconds, v.change.parameters, v.change.memory, factor * v.loss)
        for v, factor in ((other, MARGIN), (each, 1.0))
    ]
    return other.layers <= each.layers and all(a <= b for a, b in zip(*costs, strict=True))
