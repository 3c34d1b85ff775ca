"""Choices that the network does not admit: refused where they are made, taken back where the network changes later."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.address import find_nest


@pytest.fixture(scope="module")
def program() -> lm.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 8, 3))
    return lm.import_model(model.eval(), (torch.randn(1, 16, 8, 8),))


def chosen(p: lm.Program, layer: str) -> tuple[str, str]:
    """Algorithm and block that a layer carries; empty where nothing is chosen."""
    root = find_nest(p.module.operation, layer).root
    return marks.get_text(root, marks.ALGORITHM), marks.get_text(root, marks.BLOCK)


def require_equal(p: lm.Program) -> None:
    (x,) = p.example_inputs
    with torch.no_grad():
        torch.testing.assert_close(lm.compile(p)(x), p.to_module().eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            "morph-choose{layer=2 algorithm=winograd2}",
            r"layer '2': the algorithm 'winograd2' is not possible: the kernel",
        ),
        (
            "morph-bottleneck{layer=3 iter=kw factor=3},morph-choose{layer=3 algorithm=winograd4}",
            r"layer '3': .* 3x3 is required; 'direct' is accepted",
        ),
    ],
)
def test_an_impossible_algorithm_is_refused_at_its_step(program: lm.Program, step: str, message: str) -> None:
    with pytest.raises(lm.IllegalTransform, match=message):
        program.apply(step)


def test_a_possible_one_is_accepted_before_and_after_winograd(program: lm.Program) -> None:
    assert chosen(program.apply("morph-choose{layer=3 algorithm=winograd4}"), "3") == ("winograd4", "")
    after = program.apply("morph-winograd{layer=0 tile=2},morph-choose{layer=0 algorithm=winograd2}")
    assert chosen(after, "0") == ("winograd2", "")
    require_equal(after)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("morph-bottleneck{layer=0 iter=kh factor=3}", ("", "")),
        ("morph-bottleneck{layer=0 iter=co factor=2}", ("winograd2", "")),
        ("morph-group{layer=0 iters=co,ci factor=2}", ("winograd2", "")),
        ("morph-group{layer=0 iters=oh,ci factor=2}", ("", "")),
        ("morph-bottleneck{layer=2 iter=co factor=2}", ("winograd2", "1x1x1")),
    ],
    ids=["another kernel", "fewer channels", "groups", "bands", "another layer"],
)
def test_a_change_of_the_network_takes_back_what_it_outdates(
    program: lm.Program, change: str, expected: tuple[str, str]
) -> None:
    after = program.apply(f"morph-choose{{layer=0 algorithm=winograd2 block=1x1x1}},{change}")
    assert chosen(after, "0") == expected
    require_equal(after)


def test_a_loop_transformation_leaves_choices_as_they_are(program: lm.Program) -> None:
    after = program.apply("morph-choose{layer=0 algorithm=direct block=1x3x1},morph-split{layer=0 iter=co factor=4}")
    assert chosen(after, "0") == ("direct", "1x3x1")
