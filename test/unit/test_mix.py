"""`morph-mix`: nothing changes at first, and a layer's own channels are set apart."""

from __future__ import annotations

import pytest
import torch
from networks import Residual, Twice, image
from transformed import check, imported, network, own_parameter

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.rewritten.nest_module import NestModule

LAYER = "block1.conv1"


def mix(iterator: str, layer: str = LAYER) -> str:
    return f"morph-mix{{layer={layer} iter={iterator}}}"


def new_shapes(before: Program, after: Program) -> dict[str, tuple[int, ...]]:
    old = before.parameters
    return {
        name: tuple(t.shape)
        for name, t in after.parameters.items()
        if name not in old or t.shape != old[name].shape
    }  # fmt: skip


@pytest.mark.parametrize("layer", [LAYER, "block2.conv1", "block2.shortcut.0", "linear", "conv1"])
@pytest.mark.parametrize("iterator", ["co", "ci"])
def test_the_network_computes_the_same(residual: Program, layer: str, iterator: str) -> None:
    after = check(residual, mix(iterator, layer))
    name = f"{layer}.mix" + ("_in" if iterator == "ci" else "")
    (size,) = set(after.parameters[name].shape)
    assert torch.equal(after.parameters[name], torch.eye(size))
    assert after.sources[name] is None
    assert new_shapes(residual, after) == {name: (size, size)}


@pytest.mark.parametrize("layer", ["conv1", "conv2", "linear"])
def test_layers_with_a_bias(plain: Program, layer: str) -> None:
    check(plain, f"{mix('co', layer)},{mix('ci', layer)}", compiled=True)


def test_one_layer_mixed_twice(residual: Program) -> None:
    after = check(residual, f"{mix('co')},{mix('co')}")
    assert {name for name in after.parameters if ".mix" in name} == {f"{LAYER}.mix", f"{LAYER}.mix_1"}
    (entry,) = (layer for layer in after.layers if layer.name == LAYER)
    assert list(entry.nests) == [LAYER, f"{LAYER}#mix.0", f"{LAYER}#mix.1"]


def test_the_parts_of_a_layer_are_mixed_together(residual: Program) -> None:
    check(residual, f"morph-partition{{layer={LAYER} iter=co sizes=2,6}},{mix('co')},{mix('ci')}", compiled=True)


def test_the_parts_of_a_mixing_nest(residual: Program) -> None:
    after = check(residual, f"{mix('co')},morph-partition{{layer={LAYER}#mix iter=co sizes=3,5}}")
    assert torch.equal(after.parameters[f"{LAYER}.mix.part1"], torch.eye(8)[3:])


def test_the_channels_between_shrink_alone(residual: Program) -> None:
    after = check(residual, f"{mix('co')},morph-bottleneck{{layer={LAYER} iter=co factor=2}}", same=False)
    assert new_shapes(residual, after) == {f"{LAYER}.weight": (4, 8, 3, 3), f"{LAYER}.mix": (8, 4)}
    assert torch.equal(after.parameters[f"{LAYER}.mix"], torch.eye(8)[:, :4])


def test_the_channels_before_shrink_alone(residual: Program) -> None:
    after = check(residual, f"{mix('ci')},morph-bottleneck{{layer={LAYER}#mix-in iter=co factor=4}}", same=False)
    assert new_shapes(residual, after) == {f"{LAYER}.weight": (8, 2, 3, 3), f"{LAYER}.mix_in": (2, 8)}


def test_a_network_that_shrinks_around_a_mix(residual: Program) -> None:
    after = check(residual, f"{mix('co')},morph-bottleneck{{layer={LAYER}#mix iter=co factor=2}}", same=False)
    shapes = new_shapes(residual, after)
    assert shapes[f"{LAYER}.mix"] == (4, 8)
    assert shapes["block1.bn1.weight"] == (4,)
    assert f"{LAYER}.weight" not in shapes


def test_a_depthwise_layer_between(residual: Program) -> None:
    after = check(residual, f"{mix('co')},morph-depthwise{{layer={LAYER}}}", same=False)
    assert new_shapes(residual, after) == {f"{LAYER}.weight": (8, 1, 3, 3), f"{LAYER}.mix": (8, 8)}
    work = {layer.name: layer.macs for layer in after.layers}
    assert work[LAYER] == 64 * (8 * 9 + 8 * 8)


def test_a_bias_follows_the_channels_between(plain: Program) -> None:
    after = check(plain, f"{mix('co', 'conv1')},morph-bottleneck{{layer=conv1 iter=co factor=2}}", same=False)
    assert new_shapes(plain, after) == {
        "conv1.weight": (4, 3, 3, 3),
        "conv1.bias": (4,),
        "conv1.mix": (8, 4),
    }


def test_a_layer_that_reads_a_concatenation(dense: Program) -> None:
    check(dense, mix("ci", "layer2.conv1"))
    check(dense, mix("co", "layer2.conv2"), compiled=True)


def test_the_module_holds_the_new_parameter(residual: Program) -> None:
    module = residual.apply(mix("co")).to_module()
    assert isinstance(module.block1.conv1, NestModule)
    assert list(module.block1.conv1.state_dict()) == ["weight", "mix"]
    assert module.block1.conv1.fan_ins == {f"{LAYER}.weight": 72, f"{LAYER}.mix": 8}
    assert module.block1.conv1.mix.requires_grad
    module.block1.conv1.reset_parameters()
    assert 0 < module.block1.conv1.mix.abs().max() <= 8**-0.5
    assert not torch.equal(module.block1.conv1.mix.diagonal(), torch.ones(8))


def test_its_batch_is_free_and_its_dtype_is_the_models() -> None:
    program = imported(Residual().double(), image().double())
    after = program.apply(mix("co"))
    assert after.parameters[f"{LAYER}.mix"].dtype == torch.float64
    x = image(3).double()
    torch.testing.assert_close(after.to_module().eval()(x), program.model(x))


def test_the_potential_can_be_measured(residual: Program) -> None:
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    after = residual.apply(f"{mix('co')},morph-depthwise{{layer={LAYER}}}")
    for probes in ("blocks", "convs"):
        scores = [lm.fisher_potential(p.to_module(), images, labels, probes=probes) for p in (residual, after)]
        assert list(scores[0].probes) == list(scores[1].probes)
        assert scores[1].finite


def test_any_output_iterator_can_be_mixed(residual: Program) -> None:
    """Rows as well as channels, behind padding too."""
    after = check(residual, f"{mix('oh')},{mix('kh')}")
    assert after.parameters[f"{LAYER}.mix"].shape == after.parameters[f"{LAYER}.mix_in"].shape == (8, 8)


def test_an_operation_of_the_forward_has_no_place_for_a_parameter() -> None:
    program, layer = own_parameter()
    after = program.apply(mix("co", layer))
    (x,) = after.example_inputs
    torch.testing.assert_close(lm.compile(after)(x), program.model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(IllegalTransform, match=r"\.mix' has no place in PyTorch: only convolutions and nn.Linear"):
        after.to_module()


def test_a_module_that_is_used_twice_is_not_extended() -> None:
    after = network(Twice).apply(mix("co", "conv"))
    with pytest.raises(IllegalTransform, match="layer 'conv': it is used 2 times and no longer a known operation"):
        after.to_module()


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (mix("co", "conv9"), ArgumentError, "argument 'layer': no layer 'conv9' in the program; nearest: conv2, conv1"),
        (mix("x", "conv1"), ArgumentError, "argument 'iter': layer 'conv1' has no iterator 'x'"),
        (mix("co", "conv1#main"), ArgumentError, "argument 'layer': expected a layer as a whole, got .* 'conv1#main'"),
        (mix("c", "relu"), IllegalTransform, "layer 'relu': it contracts no parameter; only such a layer can be given"),
        (mix("n", "conv1"), IllegalTransform, "layer 'conv1': the iterator runs over samples, which stay apart"),
        (mix("ci", "hidden"), IllegalTransform, "layer 'hidden': 'ci' has to index exactly one axis .*, not 3"),
    ],
)
def test_refusals(plain: Program, text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        plain.apply(text)
