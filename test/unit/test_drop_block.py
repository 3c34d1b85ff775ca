"""`morph-drop-block`: the block is its skip, in code and in PyTorch; what comes after it can make up for it."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement import Of
from networks import image, randomized
from search_fakes import FakeChecker, judge
from torch import nn
from torch.nn import functional
from transformed import agrees, imported

import loopmorph as lm
from loopmorph.dialects.morph import schedule_text
from loopmorph.passes.address import find_nest
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.history import parse_steps
from loopmorph.passes.neural.drop_block import DropBlock, droppable_blocks
from loopmorph.passes.target.target import parse_target
from loopmorph.pipelines.legality.changed_modules import changed_modules, module_texts
from loopmorph.pipelines.oracle.inherit import inherit
from loopmorph.pipelines.oracle.inherited_error import inherited_error
from loopmorph.pipelines.oracle.repair.repair import repair
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.rewritten.dropped_module import DroppedModule
from loopmorph.pipelines.search.saved_model import load_model, save_model
from loopmorph.pipelines.search.search_space import Candidate, RandomDrawer

FIRST, SECOND = "morph-drop-block{layer=block1.conv1}", "morph-drop-block{layer=block2.bn2}"


def skipped(model: nn.Module, *blocks: str) -> nn.Module:
    """A `Residual` whose blocks of these names are their skips."""
    twin = copy.deepcopy(model)
    for name in blocks:
        block = twin.get_submodule(name)
        block.forward = lambda x, block=block: functional.relu(block.shortcut(x))
    return twin


def require_same(program: Program, expected: torch.Tensor) -> None:
    """The module and the code of a program give that."""
    module = program.to_module().eval()
    torch.testing.assert_close(module(*program.example_inputs), expected, rtol=0, atol=0)
    torch.testing.assert_close(lm.compile(program)(*program.example_inputs), expected, rtol=1e-4, atol=1e-5)


# -- what it leaves


@pytest.mark.parametrize(
    ("text", "blocks"),
    [(FIRST, ["block1"]), (SECOND, ["block2"]), (f"{FIRST},{SECOND}", ["block1", "block2"])],
    ids=["identity", "projection", "both"],
)
def test_a_block_is_its_skip(residual: Program, text: str, blocks: list[str]) -> None:
    after = residual.apply(text)
    (x,) = residual.example_inputs
    require_same(after, skipped(residual.model, *blocks)(x).detach())
    kept = [n for n in residual.parameters if "shortcut" in n or n.partition(".")[0] not in blocks]
    assert list(after.parameters) == kept
    assert after.steps == tuple(map(str, parse_steps(text)))


def test_its_layers_hold_nothing_and_the_rest_is_trained(residual: Program) -> None:
    module = residual.apply(FIRST).to_module()
    dropped = [name for name, each in module.named_modules() if isinstance(each, DroppedModule)]
    assert dropped == ["block1.conv1", "block1.bn1", "block1.conv2", "block1.bn2"]
    assert not any(name.startswith("block1") for name, _ in module.named_parameters())
    module.train()(image(batch=4)).sum().backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels last"])
def test_its_zeros_have_the_images_order_in_memory(layout: torch.memory_format) -> None:
    zeros = DroppedModule((1, 8, 3, 3), 1)(torch.ones(2, 4, 6, 6).to(memory_format=layout))
    assert zeros.shape == (2, 8, 3, 3)
    assert zeros.is_contiguous(memory_format=layout)
    assert not zeros.any()


def test_the_projection_can_go_instead(residual: Program) -> None:
    after = residual.apply("morph-drop-block{layer=block2.shortcut.0}")
    agrees(after)
    assert "block2.conv2.weight" in after.parameters and "block2.shortcut.0.weight" not in after.parameters
    with pytest.raises(IllegalTransform, match=r"layer 'block2\.conv2': it is in no branch of a residual block"):
        after.apply("morph-drop-block{layer=block2.conv2}")


def attention(norm: nn.Module, mix: nn.Module, x: torch.Tensor) -> torch.Tensor:
    tokens = norm(x)
    return x + mix(torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens)


def in_place(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = conv(x)
    out += x
    return out


def conv(inputs: int = 3, outputs: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


CASES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = {
    "before the norm": (
        lambda: nn.Sequential(
            conv(),
            Of(lambda f, x: x + f(x), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), conv())),
            Of(lambda f, x: f(x) + x, nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), conv())),
        ),
        "1.parts.0.2",
        (1, 3, 8, 8),
    ),
    "inverted": (
        lambda: Of(lambda f, x: x + f(x), nn.Sequential(conv(3, 6), nn.ReLU6(), nn.Conv2d(6, 3, 1))),
        "parts.0.0",
        (1, 3, 8, 8),
    ),
    "in place": (lambda: Of(in_place, conv()), "parts.0", (1, 3, 8, 8)),
    "weighted": (lambda: Of(lambda f, x: torch.add(x, f(x), alpha=0.5), conv()), "parts.0", (1, 3, 8, 8)),
    "relu of its own": (lambda: Of(lambda f, x: x + torch.relu(f(x)), conv()), "parts.0", (1, 3, 8, 8)),
    "tokens": (
        lambda: Of(lambda f, x: x + f(x), nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 6))),
        "parts.0.1",
        (2, 5, 6),
    ),
    "attention": (lambda: Of(attention, nn.LayerNorm(6), nn.Linear(6, 6)), "parts.1", (2, 5, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_any_residual_block(name: str) -> None:
    make, layer, shape = CASES[name]
    program = imported(make(), torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    after = program.apply(f"morph-drop-block{{layer={layer}}}")
    module = after.to_module().eval()
    (x,) = program.example_inputs
    torch.testing.assert_close(lm.compile(after)(x), module(x), rtol=1e-4, atol=1e-5)
    assert not any(layer in key for key in after.parameters)
    if name != "before the norm":
        torch.testing.assert_close(module(x), x, rtol=0, atol=0)
    more = torch.cat([x, x])
    torch.testing.assert_close(module(more), torch.cat([module(x), module(x)]))


def test_the_innermost_block_is_dropped() -> None:
    inner = Of(lambda f, x: x + f(x), conv())
    program = imported(Of(lambda f, x: x + f(x), nn.Sequential(inner, conv())))
    after = program.apply("morph-drop-block{layer=parts.0.0.parts.0}")
    assert list(after.parameters) == ["parts.0.1.weight", "parts.0.1.bias"]
    outer = after.apply("morph-drop-block{layer=parts.0.1}")
    assert list(outer.parameters) == []
    (x,) = program.example_inputs
    require_same(outer, x)


# -- what it refuses


@pytest.mark.parametrize(
    ("model", "layer", "message"),
    [
        (
            lambda: Of(lambda f, x: x + torch.sigmoid(f(x)), conv()),
            "parts.0",
            "sigmoid': the model's own code computes it from what is dropped, and makes other than zeros of zeros",
        ),
        (
            lambda: Of(lambda f, x: (lambda y: y + f(y))(x + f(x)), conv()),
            "parts.0",
            "module 'parts.0': it is called by what stays, too",
        ),
    ],
    ids=["not of zeros", "shared"],
)
def test_what_has_no_form_in_pytorch(model: Callable[[], nn.Module], layer: str, message: str) -> None:
    after = imported(model()).apply(f"morph-drop-block{{layer={layer}}}")
    with pytest.raises(IllegalTransform, match=message):
        after.to_module()


def test_no_part_of_a_layer(residual: Program) -> None:
    with pytest.raises(ArgumentError, match=r"'layer': expected a layer, all nests of which go, got 'block1\.c.*pad'"):
        residual.apply("morph-drop-block{layer=block1.conv1#pad}")
    with pytest.raises(ArgumentError, match=r"no layer 'block1\.conv3' in the program; nearest: block1\.conv"):
        residual.apply("morph-drop-block{layer=block1.conv3}")


# -- the doors


def test_both_doors_and_replay(residual: Program) -> None:
    steps = parse_steps(f"morph-bottleneck{{layer=block1.conv1 iter=co factor=2}},{FIRST},{SECOND}")
    text = schedule_text(steps)
    after = residual.apply(text)
    assert str(after) == str(residual.after(steps))
    assert after.history == steps
    replayed = lm.replay(residual.model, residual.example_inputs, text)
    assert str(replayed.program) == str(after)


def test_a_saved_model_is_built_again(residual: Program, tmp_path: Path) -> None:
    module = residual.apply(FIRST).to_module()
    with (tmp_path / "model.pt").open("wb") as file:
        save_model(file, module, model="test:Residual", original=residual.model, schedule=FIRST)
    found = load_model(tmp_path / "model.pt", original=(residual.model, residual.example_inputs))
    (x,) = residual.example_inputs
    torch.testing.assert_close(found.eval()(x), module.eval()(x), rtol=0, atol=0)


# -- with what else there is


@pytest.mark.parametrize(
    "before",
    [
        "morph-bottleneck{layer=block1.conv1 iter=co factor=2}",
        "morph-group{layer=block1.conv2 iters=co,ci factor=2}",
        "morph-partition{layer=block1.conv1 iter=co parts=2}",
        "morph-bottleneck{layer=block1.conv2 iter=oh factor=2}",
        "morph-interchange{layer=block1.conv1 order=n,oh,ow,co,ci,kh,kw}",
    ],
)
def test_whatever_the_branch_was_made(residual: Program, before: str) -> None:
    after = residual.apply(f"{before},{FIRST}")
    assert without_record(after) == without_record(residual.apply(FIRST))
    module = after.to_module().eval()
    (x,) = residual.example_inputs
    torch.testing.assert_close(module(x), skipped(residual.model, "block1")(x), rtol=0, atol=0)


def without_record(program: Program) -> str:
    """The text of a program without the steps that made it."""
    return re.sub(r"attributes \{morph\.schedule = \[.*\]\} ", "", str(program))


WIDTH = "morph-bottleneck{layer=bn1 iter=c factor=2}"


@pytest.mark.parametrize("text", [f"{WIDTH},{FIRST}", f"{FIRST},{SECOND},{WIDTH}", f"{SECOND},{FIRST},{WIDTH}"])
def test_the_width_of_the_skip_changes_as_well(residual: Program, text: str) -> None:
    module = residual.apply(text).to_module().eval()
    (x,) = residual.example_inputs
    order = [step for step in text.replace("},", "}|").split("|") if step != WIDTH]
    blocks = [step.partition("layer=")[2].partition(".")[0] for step in order]
    expected = skipped(residual.apply(WIDTH).to_module().eval(), *blocks)
    torch.testing.assert_close(module(x), expected(x), rtol=0, atol=0)
    assert module.get_submodule("conv1").weight.shape == (4, 3, 3, 3)


def test_repair_makes_up_for_it(residual: Program) -> None:
    x = image(batch=64, seed=3)
    dropped = residual.apply(FIRST)
    found = repair(residual, dropped, x)
    told = {layer.name: layer for layer in found.layers}
    assert all(told[f"block1.{name}"].note == "it was dropped" for name in ("conv1", "bn1", "conv2", "bn2"))
    fitted = [layer for layer in found.layers if layer.after is not None]
    assert [layer.name for layer in fitted] == ["block2.conv1", "block2.conv2", "block2.shortcut.0", "linear"]
    assert all(layer.after < layer.before for layer in fitted)
    assert torch.equal(found.program.parameters["conv1.weight"], residual.parameters["conv1.weight"])
    unseen = image(batch=64, seed=4)
    assert inherited_error(residual, found.program, unseen) < 0.7 * inherited_error(residual, dropped, unseen)


@pytest.mark.parametrize("how", ["salient", "repair"])
def test_inherited_weights(residual: Program, how: str) -> None:
    others = (
        "morph-bottleneck{layer=block2.conv1 iter=co factor=2},morph-group{layer=block2.conv2 iters=co,ci factor=2}"
    )
    program = residual.apply(f"{others},{FIRST}")
    found = inherit(residual, program, how, (image(batch=16, seed=3),), orders=True)
    assert FIRST in found.program.steps
    assert bool(found.program.to_module().eval()(image(seed=3)).isfinite().all())


# -- the search


def test_which_blocks_can_be_dropped(residual: Program, plain: Program) -> None:
    found = {str(step): branch.layers for step, branch in droppable_blocks(residual.module.operation)}
    assert list(found) == [
        "morph-drop-block{layer=block1.conv2}",
        "morph-drop-block{layer=block2.conv2}",
        "morph-drop-block{layer=block2.shortcut.0}",
    ]
    assert found["morph-drop-block{layer=block2.shortcut.0}"] == ("block2.shortcut.0", "block2.shortcut.1")
    assert droppable_blocks(plain.module.operation) == ()


def test_it_is_offered_on_the_last_contraction(residual: Program) -> None:
    module = residual.module.operation
    with module.context:
        offered = {
            layer.name: DropBlock.space(find_nest(module, layer.name)) for layer in residual.layers if layer.macs
        }
    assert {name for name, space in offered.items() if space} == {"block1.conv2", "block2.conv2", "block2.shortcut.0"}
    assert offered["block1.conv2"] == [DropBlock("block1.conv2")]


def test_the_search_draws_it_without_loop_steps(residual: Program) -> None:
    drawer = RandomDrawer(residual, parse_target("x86_64_v3"))
    drawn = [drawer.draw("block1.conv2", random.Random(seed)) for seed in range(16)]
    dropped = [candidate for candidate in drawn if isinstance(candidate.neural, DropBlock)]
    assert dropped and all(candidate.refusal is None and not candidate.loops for candidate in dropped)


def test_layers_that_are_gone_take_no_time(residual: Program) -> None:
    checker = FakeChecker()
    judging = judge(residual, checker=checker)
    step = DropBlock("block1.conv2")
    times = {time.name: time for time in judging.layer_times([step])}
    assert {name for name, time in times.items() if time.ms_after == 0.0} == {"block1.conv1", "block1.conv2"}
    assert all(
        times[name].ms_before == 1e3 and times[name].macs_after == 0 for name in ("block1.conv1", "block1.conv2")
    )
    assert not {"block1.conv1", "block1.conv2"}.intersection(checker.checked)
    verdict = judging.judge(Candidate("block1.conv2", step, ()))
    assert verdict.saved is not None and verdict.saved >= 2e3


def test_only_its_own_block_is_changed(residual: Program) -> None:
    """By what block signals are told which blocks to measure: what others read in its place changes none of them."""
    before, after = (module_texts(each) for each in (residual, residual.apply(FIRST)))
    assert {name.partition(".")[0] for name in changed_modules(before, after)} == {"block1"}


def test_weights_do_not_matter_to_the_code(residual: Program) -> None:
    """A network of NaN weights in the branch is the skip all the same."""
    model = randomized(copy.deepcopy(residual.model))
    with torch.no_grad():
        model.get_submodule("block1").conv1.weight.fill_(torch.nan)
    program = lm.import_model(model, residual.example_inputs).apply(FIRST)
    result: Any = lm.compile(program)(*program.example_inputs)
    assert bool(result.isfinite().all())
