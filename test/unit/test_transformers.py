"""Neural rewrites of a transformer by the names of its dimensions, as compiled code, in PyTorch, repaired and saved."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from test_schedules import OF_TRANSFORMERS
from torch import nn

import loopmorph as lm
from loopmorph.passes.analysis.coupling.program_accesses import ProgramAccesses
from loopmorph.passes.analysis.dimension_names import named_dimensions
from loopmorph.passes.neural.bottleneck import Bottleneck
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.oracle.score_features import feature_losses
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.rewritten.model_file import describe_origin, read_model, write_model
from loopmorph.pipelines.rewritten.nested_code import NestedCode
from loopmorph.pipelines.search.variants.ground import Ground
from loopmorph.pipelines.search.variants.kinds import attention_narrowed, stage_width
from loopmorph.pipelines.zoo import VisionTransformer

ATTENTION = "blocks.0.attn"
# Every rewrite once, in two blocks: what is narrower in one is whole in the other.
STEPS = (
    "morph-bottleneck{layer=blocks.0.attn.qkv iter=head factor=2 keep=1}",
    "morph-bottleneck{layer=blocks.0.mlp.fc2 iter=hidden factor=4}",
    "morph-group{layer=blocks.0.attn.proj iters=co,ci factor=2}",
    "morph-bottleneck{layer=blocks.1.attn.qkv iter=feature factor=4}",
    "morph-bottleneck{layer=blocks.1.attn.proj iter=value factor=2}",
    "morph-mix{layer=blocks.1.mlp.fc1 iter=co}",
    "morph-bottleneck{layer=blocks.1.mlp.fc1 iter=co factor=4}",
)
NARROW = ("morph-bottleneck{layer=patch iter=co factor=2}", "morph-drop-block{layer=blocks.1.mlp.fc2}")


@pytest.fixture(scope="module")
def vit() -> Program:
    """Two blocks of two heads with eight features each, on four patches and a class token."""
    torch.manual_seed(0)
    model = VisionTransformer(8, 4, 16, 2, 2, classes=4).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return import_model(model, (torch.randn(1, 3, 8, 8),))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def shapes(program: Program, *names: str) -> list[tuple[int, ...]]:
    return [tuple(program.parameters[f"blocks.0.{name}"].shape) for name in names]


def test_dimensions_have_names_in_all_layers_that_go_along_them(vit: Program) -> None:
    with vit.module.context:
        found = list(named_dimensions(ProgramAccesses(vit.module.operation)))
    first = {each.name: each for each in found if f"{ATTENTION}.qkv" in each.layers}
    assert {name: each.loop.extent for name, each in first.items()} == {
        **{"head": 2, "feature": 8, "value": 8, "token": 5, "token2": 5}
    }
    assert {f"{ATTENTION}.qkv", f"{ATTENTION}.proj"} <= first["head"].layers
    assert not any("blocks.1" in layer or "mlp" in layer for layer in first["head"].layers)
    hidden = [each for each in found if each.name == "hidden"]
    assert [sorted(each.layers) for each in hidden] == [
        [f"blocks.{k}.mlp.act", f"blocks.{k}.mlp.fc1", f"blocks.{k}.mlp.fc2"] for k in range(2)
    ]


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("fewer-heads", "attn.qkv", [(24, 16), (24,), (16, 8), (64, 16)]),
        ("fewer-features", "attn.proj", [(32, 16), (32,), (16, 16), (64, 16)]),
        ("fewer-values", "attn.proj", [(40, 16), (40,), (16, 8), (64, 16)]),
        ("narrower-hidden", "mlp.fc2", [(48, 16), (48,), (16, 16), (32, 16)]),
        ("narrower-stream", "attn.proj", [(48, 8), (48,), (8, 16), (64, 8)]),
    ],
)
def test_a_schedule_narrows_all_that_goes_along_its_dimension(
    vit: Program, name: str, layer: str, expected: list[tuple[int, ...]]
) -> None:
    after = vit.apply(lm.load_schedule(name, layer=f"blocks.0.{layer}"))
    assert shapes(after, "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "mlp.fc1.weight") == expected
    assert name in OF_TRANSFORMERS


def test_a_schedule_drops_an_attention_and_its_norm(vit: Program) -> None:
    after = vit.apply(lm.load_schedule("drop-block", layer="blocks.0.attn.proj"))
    gone = vit.parameters.keys() - after.parameters.keys()
    assert {name.partition(".attn.")[0] for name in gone if ".attn." in name} == {"blocks.0"}
    assert {name for name in gone if ".attn." not in name} == {"blocks.0.norm1.weight", "blocks.0.norm1.bias"}


class Apart(nn.Module):
    """Attention with a projection each for queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        seen = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.proj(seen.transpose(1, 2).flatten(2))


def test_features_of_queries_and_keys_are_judged_by_the_scores() -> None:
    torch.manual_seed(0)
    model, x = Apart().eval(), torch.randn(5, 4, 6)
    found = feature_losses(import_model(model, (x[:1],)), [Bottleneck("k", "feature", 3)], [x])
    with torch.no_grad():
        q, k = (layer(x).unflatten(-1, (2, 3)).transpose(1, 2) for layer in (model.q, model.k))

    def change(*gone: int) -> float:
        lost = q[..., list(gone)] @ k[..., list(gone)].transpose(-1, -2)
        return float((lost.square().sum() / (q @ k.transpose(-1, -2)).square().sum()).item())

    first = min(range(3), key=change)
    second = min({0, 1, 2} - {first}, key=lambda feature: change(first, feature))
    losses = found["k", "feature"]
    assert losses.tolist().index(losses.min()) == first
    assert losses[first] == pytest.approx(change(first), rel=1e-4)
    assert losses[second] == pytest.approx(max(change(first), change(first, second) - change(first)), rel=1e-4)


def test_the_features_stay_that_the_scores_need(vit: Program, images: torch.Tensor) -> None:
    model = copy.deepcopy(vit.model)
    qkv = model.blocks[0].attn.qkv
    with torch.no_grad():
        for feature, side in ((0, 0), (2, 1), (5, 0), (6, 1)):  # of the queries or of the keys, in both heads
            rows = [16 * side + feature, 16 * side + 8 + feature]
            qkv.weight[rows], qkv.bias[rows] = 0, 0
    step = f"morph-bottleneck{{layer={ATTENTION}.qkv iter=feature factor=2}}"
    after = import_model(model, vit.example_inputs).apply(step)
    assert after.inherit("least-squares", images).history[0].keep == (1, 3, 4, 7)


@pytest.mark.parametrize("steps", [STEPS, NARROW], ids=["inside", "width"])
def test_the_compiled_network_is_its_module_for_any_batch(
    vit: Program, images: torch.Tensor, steps: tuple[str, ...]
) -> None:
    after = vit.apply(",".join(steps))
    module = after.to_module().eval()
    compiled = lm.compile(after)
    results = module(images[:3])
    for image, result in zip(images[:3], results, strict=True):
        torch.testing.assert_close(compiled(image[None]), result[None], rtol=1e-4, atol=1e-5)
    results.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_code_that_names_its_heads_gives_way_and_its_layers_stay(vit: Program) -> None:
    after = vit.apply(STEPS[0])
    module = after.to_module()
    attention, other = module.blocks[0].attn, module.blocks[1].attn
    assert isinstance(attention, NestedCode) and not isinstance(other, NestedCode)
    assert type(attention.qkv) is nn.Linear and attention.qkv.out_features == 24
    assert attention.proj.in_features == 8
    original = vit.model.blocks[0].attn.qkv.weight.reshape(3, 2, 8, 16)
    assert torch.equal(attention.qkv.weight, original[:, 1].reshape(24, 16))


def test_code_that_gives_way_is_computed_as_its_nests_are_scheduled(vit: Program, images: torch.Tensor) -> None:
    scores = "blocks.0.attn|bmm"
    after = vit.apply(STEPS[0])
    partitioned = after.apply(f"morph-partition{{layer={scores} iter=co sizes=2,3}}")
    vectorised = partitioned.apply(f"morph-vectorize{{layer={scores}#main.0 iter=ci width=2}}")
    for image in images[:2]:
        result, expected = (program.to_module().eval()(image[None]) for program in (vectorised, after))
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


def test_repair_keeps_what_is_read_and_restores_what_it_can(vit: Program, images: torch.Tensor) -> None:
    model = copy.deepcopy(vit.model)
    with torch.no_grad():
        model.blocks[0].attn.proj.weight[:, :8] = 0  # the first head
        model.blocks[1].mlp.fc2.weight[:, ::2] = 0
    program = import_model(model, vit.example_inputs)
    steps = f"morph-bottleneck{{layer={ATTENTION}.qkv iter=head factor=2}}"
    after = program.apply(f"{steps},morph-bottleneck{{layer=blocks.1.mlp.fc1 iter=hidden factor=2}}")
    repaired = after.inherit("repair", images)
    assert [step.keep for step in repaired.history] == [(1,), tuple(range(1, 64, 2))]
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(repaired.to_module().eval()(images), expected, rtol=1e-3, atol=1e-3)
        assert (after.to_module().eval()(images) - expected).abs().max() > 0.01


def test_repair_fits_linear_layers_on_tokens(vit: Program, images: torch.Tensor) -> None:
    after = vit.apply(",".join(STEPS))
    with torch.no_grad():
        expected = vit.model(images)
        errors = [
            float((each.to_module().eval()(images) - expected).square().sum()) for each in (after, after.repair(images))
        ]
    assert errors[1] < 0.3 * errors[0]


def test_a_rewritten_transformer_is_saved_and_loaded(vit: Program, images: torch.Tensor, tmp_path: Path) -> None:
    after = vit.apply(",".join((*STEPS[:3], NARROW[0])))
    module = after.to_module().eval()
    origin = describe_origin(module, vit.model, "vit", 0, "")
    with (tmp_path / "model.pt").open("wb") as file:
        write_model(file, module, origin)
    loaded = read_model(tmp_path / "model.pt").rebuilt(vit.model).eval()
    with torch.no_grad():
        assert torch.equal(loaded(images[:2]), module(images[:2]))


def test_variants_are_offered_of_heads_and_features_and_the_width(vit: Program) -> None:
    ground = Ground(vit, Target("zen4", "x86_64", 16, 32))
    unit = next(unit for unit in ground.units if unit.path == "blocks.0")
    offered = [proposal.text for options in attention_narrowed(unit) for proposal in options]
    assert offered == [
        f"morph-bottleneck{{layer={ATTENTION}.qkv iter={name} factor={factor}}}"
        for name, factor in [("head", 2), ("feature", 2), ("feature", 4), ("value", 2), ("value", 4)]
    ]
    assert "morph-bottleneck{layer=patch iter=co factor=2}" in [each.text for each in stage_width(ground)]
    assert {"blocks.0.attn.proj", "blocks.0.mlp.fc2"} <= ground.droppable.keys()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            "morph-bottleneck{layer=blocks.0.attn.qkv iter=head factor=4}",
            "the extent 2 of iterator 'b' .* not divisible by 4",
        ),
        (
            "morph-bottleneck{layer=blocks.0.mlp.fc1 iter=head factor=2}",
            "goes along no dimension 'head'; .* dimensions hidden",
        ),
        ("morph-bottleneck{layer=head iter=co factor=2}", "tied to the network's output"),
        ("morph-bottleneck{layer=blocks.0.attn.qkv iter=token2 factor=5}", "reduces over it without a parameter"),
        (
            "morph-bottleneck{layer=blocks.0.norm1 iter=c factor=5}",
            "the extent 1 of c in layer 'cat' is not divisible by 5",
        ),
    ],
)
def test_what_does_not_apply_is_refused(vit: Program, step: str, message: str) -> None:
    with pytest.raises((lm.IllegalTransform, lm.ArgumentError), match=message):
        vit.apply(step)
