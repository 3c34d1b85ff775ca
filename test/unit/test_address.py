"""Addresses of nests: text and back, and what is said of those that name nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopmorph.passes.address import Address, addressed_roots, find_nest
from loopmorph.passes.errors import ArgumentError
from loopmorph.pipelines.program import Program

NAMES = st.text("abc.|_0", min_size=1)
ROLES = st.sampled_from(["main", "init", "pad", "filter-transform"])


@given(NAMES, ROLES, st.none() | st.integers(0, 99))
def test_text_and_back(layer: str, role: str, number: int | None) -> None:
    address = Address(layer, role, number)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("conv1", Address("conv1")),
        ("conv1#main", Address("conv1")),
        ("conv1#pad", Address("conv1", "pad")),
        ("layer1.0.conv1#main.1", Address("layer1.0.conv1", "main", 1)),
        ("|relu#", Address("|relu")),
    ],
)
def test_what_a_text_spells(text: str, address: Address) -> None:
    assert Address.parse(text) == address


def test_every_nest_has_an_address_that_finds_it(plain: Program) -> None:
    module = plain.module.operation
    with module.context:
        for address, root in addressed_roots(module):
            assert find_nest(module, str(address)).root.operation == root.operation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv3", "'layer': no layer 'conv3' in the program; nearest: conv"),
        ("conv1#nothing", "'layer': layer 'conv1' has no nest of role 'nothing'; it has .*main"),
        ("conv1#main.x", r"'layer': layer 'conv1' has no nest of role 'main\.x'; it has .*main"),
        ("conv1#main.7", r"'layer': 'conv1#main\.7' is computed by 1 nests; 'conv1#main\.0' is the first"),
    ],
)
def test_an_address_that_names_nothing(plain: Program, text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        find_nest(plain.module.operation, text)
