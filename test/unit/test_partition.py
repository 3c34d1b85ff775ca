"""`morph-partition`: the values stay, each part can be transformed, parameters and modules follow."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jit import run_affine
from loop_programs import diagonal, expected, inputs, require_in_bounds, sources, triangle
from loop_programs import program as small_program
from networks import Plain, Twice, image
from torch_mlir import ir
from transformed import check, imported, network, own_parameter

import loopmorph as lm
from loopmorph.passes.errors import ArgumentError, IllegalTransform, LoopmorphError
from loopmorph.passes.loop.partition import Partition
from loopmorph.passes.loop.split import Split
from loopmorph.passes.loop.vectorize import Vectorize
from loopmorph.passes.lowering.anonymous_layer import anonymous_text
from loopmorph.passes.nest import nests
from loopmorph.pipelines.program import Program
from loopmorph.pipelines.rewritten.nest_module import NestModule

LAYER = "block1.conv1"


def layer_nests(program: Program, layer: str) -> dict[str, dict[str, int | None]]:
    return next({k: dict(v) for k, v in entry.nests.items()} for entry in program.layers if entry.name == layer)


def partition(iterator: str, sizes: str, layer: str = LAYER) -> str:
    return f"morph-partition{{layer={layer} iter={iterator} sizes={sizes}}}"


# ---- values


@settings(max_examples=40, deadline=None)
@given(st.data(), sources)
def test_any_legal_partition_keeps_the_values(data: st.DataObject, source: object) -> None:
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(source.text)
        for number in range(data.draw(st.integers(1, 2))):
            loops = [loop for loop in nests(module.operation)[0].loops if (loop.extent or 0) > 1]
            assume(loops)
            loop = data.draw(st.sampled_from(loops))
            cuts = data.draw(st.sets(st.integers(1, loop.extent - 1), min_size=1, max_size=3))
            sizes = tuple(b - a for a, b in pairwise([0, *sorted(cuts), loop.extent]))
            before = str(module)
            try:
                Partition(f"net#main.{number}" if number else "net", loop.iterator, sizes).apply(module.operation)
            except (IllegalTransform, ArgumentError):
                assert str(module) == before
                break
        assert module.operation.verify()
        for nest in nests(module.operation):
            require_in_bounds(nest)
        for got, wanted in zip(run_affine(module.operation, inputs(source.shapes)), expected(source), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("iterator", "sizes"), [("co", "2,6"), ("ci", "3,5"), ("oh", "4,4"), ("ow", "1,2,5"), ("kh", "1,2"), ("co", "0,3")]
)
def test_a_partitioned_network_computes_the_same(residual: Program, iterator: str, sizes: str) -> None:
    after = check(residual, partition(iterator, sizes), compiled=sizes in ("3,5", "1,2,5"))
    extents = [nest[iterator] for nest in layer_nests(after, LAYER).values()]
    given = [int(size) for size in sizes.split(",")]
    assert extents == [size or sum(extents) - sum(given) for size in given]
    work = [sum(layer.macs for layer in program.layers) for program in (residual, after)]
    assert work[0] == work[1]


def test_equal_parts(residual: Program) -> None:
    after = residual.apply(f"morph-partition{{layer={LAYER} iter=co parts=4}}")
    assert [nest["co"] for nest in layer_nests(after, LAYER).values()] == [2, 2, 2, 2]


def test_parts_of_parts_are_numbered_in_program_order(residual: Program) -> None:
    steps = [
        partition("co", "2,6"),
        partition("co", "3,3", f"{LAYER}#main.1"),
        partition("ci", "4,4", f"{LAYER}#main.0"),
    ]
    after = check(residual, ",".join(steps), compiled=True)
    assert [(n["co"], n["ci"]) for n in layer_nests(after, LAYER).values()] == [(2, 4), (2, 4), (3, 8), (3, 8)]
    assert [name for name in after.parameters if name.startswith(f"{LAYER}.weight")] == [
        f"{LAYER}.weight.part0.part0",
        f"{LAYER}.weight.part0.part1",
        f"{LAYER}.weight.part1.part0",
        f"{LAYER}.weight.part1.part1",
    ]
    old = residual.parameters[f"{LAYER}.weight"]
    assert torch.equal(after.parameters[f"{LAYER}.weight.part0.part1"], old[:2, 4:])
    assert torch.equal(after.parameters[f"{LAYER}.weight.part1.part1"], old[5:])


def test_the_digits_of_a_grouped_iterator_can_be_cut(residual: Program) -> None:
    group = f"morph-group{{layer={LAYER} iters=co,ci factor=2}}"
    grouped = residual.apply(group).parameters[f"{LAYER}.weight"].unflatten(0, (2, 4))
    for iterator, sizes, parts in (
        ("co", "1,3", [grouped[:, :1].flatten(0, 1), grouped[:, 1:].flatten(0, 1)]),
        ("g", "1,1", [grouped[0], grouped[1]]),
    ):
        after = check(residual, f"{group},{partition(iterator, sizes)}", same=False)
        for k, part in enumerate(parts):
            assert torch.equal(after.parameters[f"{LAYER}.weight.part{k}"], part)


def test_a_linear_layer_and_a_layer_with_a_bias(plain: Program) -> None:
    after = check(plain, f"{partition('co', '3,7', 'linear')},{partition('co', '2,6', 'conv1')}", compiled=True)
    assert after.parameters["linear.weight.part1"].shape == (7, 12)
    assert after.parameters["conv1.bias"].shape == (8,)


def test_a_nest_that_is_no_contraction_keeps_its_parameters(residual: Program) -> None:
    after = check(residual, f"{partition('c', '3,5', 'bn1')},{partition('c', '3,5', 'bn1#prologue.0')}")
    assert list(after.parameters) == list(residual.parameters)


# ---- each part on its own


def test_parts_are_transformed_one_by_one(residual: Program) -> None:
    after = check(
        residual,
        f"{partition('co', '4,4')},morph-group{{layer={LAYER}#main.1 iters=co,ci factor=2}},"
        f"morph-tile{{layer={LAYER}#main.0 iters=oh,ow sizes=4,4}}",
        same=False,
    )
    assert after.parameters[f"{LAYER}.weight.part0"].shape == (4, 8, 3, 3)
    assert after.parameters[f"{LAYER}.weight.part1"].shape == (4, 4, 3, 3)


def test_all_parts_of_a_layer_follow_what_it_reads(residual: Program) -> None:
    after = check(
        residual,
        f"{partition('co', '3,5', 'block1.conv2')},morph-bottleneck{{layer={LAYER} iter=co factor=2}}",
        same=False,
    )
    assert after.parameters["block1.conv2.weight.part1"].shape == (5, 4, 3, 3)


def test_a_layer_in_parts_is_named_by_the_address_of_one(residual: Program) -> None:
    after = residual.apply(partition("co", "4,4"))
    with pytest.raises(ArgumentError, match=f"'{LAYER}' is computed by 2 nests; '{LAYER}#main.0' is the first"):
        after.apply(f"morph-group{{layer={LAYER} iters=co,ci factor=2}}")


def test_the_schedule_operation_yields_the_first_part(residual: Program) -> None:
    schedule = """module attributes {transform.with_named_sequence} {
      transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {
        %a, %n = "morph.partition"(%m) {layer = "conv2", iter = "n", parts = 2 : i64, morph.kind = "loop"}
          : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
        transform.loop.unroll %n {factor = 2} : !transform.any_op
        transform.yield
      }
    }"""
    batch = imported(Plain(), image(8))
    after = batch.apply(schedule)
    first, second = (nest for nest in nests(after.module.operation) if (nest.layer, nest.role) == ("conv2", "main"))
    assert (first.extents[0], second.extents[0]) == (2, 4)
    (x,) = batch.example_inputs
    torch.testing.assert_close(lm.compile(after)(x), batch.model(x), rtol=1e-4, atol=1e-5)


# ---- the IR and the module


def test_print_parse_and_go_on(residual: Program) -> None:
    steps = [partition("co", "2,6"), partition("co", "3,3", f"{LAYER}#main.1")]
    at_once = residual.apply(",".join(steps))
    for text in steps:
        residual = residual.apply(text)
        module = ir.Module.parse(str(residual), residual.module.context)
        residual = Program(module, residual.model, residual.example_inputs, residual.imported)
    assert str(residual) == str(at_once)
    assert residual.steps == tuple(steps)


def test_inputs_and_outputs_stay_where_they_are_among_the_arguments(residual: Program) -> None:
    kinds = [
        [next(iter({"morph.param", "morph.input", "morph.output"} & {m.name for m in ir.DictAttr(d)}))
         for d in ir.ArrayAttr(next(iter(p.module.body.operations)).attributes["arg_attrs"])]
        for p in (residual, residual.apply(partition("co", "2,6")))
    ]  # fmt: skip
    assert kinds[1] == ["morph.param", *kinds[0]]


def test_the_module_holds_the_pieces_under_the_layers_name(residual: Program) -> None:
    program = dataclasses.replace(residual, model=copy.deepcopy(residual.model))
    program.model.block1.conv1.weight.requires_grad_(False)
    module = program.apply(partition("co", "2,6")).to_module()
    assert isinstance(module.block1.conv1, NestModule)
    assert module.block1.conv1.is_convolution
    state = {name: tuple(t.shape) for name, t in module.state_dict().items() if name.startswith(f"{LAYER}.")}
    assert state == {f"{LAYER}.weight_part0": (2, 8, 3, 3), f"{LAYER}.weight_part1": (6, 8, 3, 3)}
    assert not any(p.requires_grad for p in module.block1.conv1.parameters())


def test_each_piece_is_initialised_by_its_own_fan_in(residual: Program) -> None:
    after = residual.apply(f"{partition('co', '4,4')},morph-group{{layer={LAYER}#main.1 iters=co,ci factor=4}}")
    module = after.to_module().block1.conv1
    assert module.fan_ins == {f"{LAYER}.weight.part0": 72, f"{LAYER}.weight.part1": 18}
    module.reset_parameters()
    for piece, bound in ((module.weight_part0, 72**-0.5), (module.weight_part1, 18**-0.5)):
        assert 0.8 * bound < piece.abs().max() <= bound


def test_pieces_of_one_sum_are_initialised_by_its_whole_fan_in(residual: Program) -> None:
    after = residual.apply(partition("ci", "2,6"))
    assert set(after.to_module().block1.conv1.fan_ins.values()) == {72}


def test_the_potential_probes_what_it_did(residual: Program) -> None:
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    after = residual.apply(f"{partition('co', '4,4')},morph-group{{layer={LAYER}#main.1 iters=co,ci factor=2}}")
    for probes in ("blocks", "convs"):
        scores = [lm.fisher_potential(p.to_module(), images, labels, probes=probes) for p in (residual, after)]
        assert list(scores[0].probes) == list(scores[1].probes)
        assert scores[1].finite


def test_the_text_that_stands_for_all_such_layers_names_no_parameter(residual: Program) -> None:
    from loopmorph.passes.lowering.extract_layer import extract_layer

    after = residual.apply(partition("co", "2,6"))
    text = anonymous_text(extract_layer(after.module.operation, LAYER, closed=True))
    assert "block1" not in text
    assert "morph-partition{layer=layer iter=co sizes=2,6}" in text


def test_pieces_of_a_users_own_parameter_are_joined() -> None:
    program, layer = own_parameter()
    after = program.apply(partition("co", "2,6", layer))
    (x,) = after.example_inputs
    assert torch.equal(after.to_module()(x), program.model(x))


def test_pieces_of_a_users_own_parameter_that_differ_are_refused() -> None:
    program, layer = own_parameter()
    after = program.apply(f"{partition('co', '4,4', layer)},morph-group{{layer={layer}#main.1 iters=co,ci factor=2}}")
    with pytest.raises(IllegalTransform, match="parameter 'weight': it was cut into pieces that differ now"):
        after.to_module()


# ---- refusals


def test_a_parameter_that_others_read_is_not_cut() -> None:
    program = network(Twice)
    match = (
        "layer 'conv': its parameter 'conv.weight' is read elsewhere as well .by 'conv@1'.; it cannot be cut along 'co'"
    )
    with pytest.raises(IllegalTransform, match=match):
        program.apply(partition("co", "1,2", "conv"))
    check(program, partition("oh", "3,5", "conv"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            "iter=co sizes=2,5",
            "argument 'sizes': expected at least two sizes of at least 1 that add up to 8, .*got 2,5",
        ),
        ("iter=co sizes=8", "argument 'sizes': expected at least two sizes .* the extent of 'co' .*, got 8"),
        ("iter=co sizes=9,-1", "argument 'sizes': .* got 9,-1"),
        ("iter=co sizes=0,0", r"argument 'sizes': .*\(one may be 0: what is left\), got 0,0"),
        ("iter=co sizes=8,0", "argument 'sizes': .* got 8,0"),
        ("iter=co", "argument 'sizes': expected either `sizes` or `parts`"),
        ("iter=co sizes=4,4 parts=2", "argument 'sizes': expected either `sizes` or `parts`"),
        (
            "iter=co parts=3",
            "argument 'parts': expected a number of at least 2 that divides 8, the extent of 'co', got 3",
        ),
        ("iter=co parts=1", "argument 'parts': .* got 1"),
        ("iter=x parts=2", "argument 'iter': layer 'block1.conv1' has no iterator 'x'; it has n, co"),
    ],
)
def test_bad_options(residual: Program, options: str, match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        residual.apply(f"morph-partition{{layer={LAYER} {options}}}")


def refusal(text: str, *steps: Partition | Split | Vectorize) -> LoopmorphError:
    *earlier, last = steps
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        for step in earlier:
            step.apply(module.operation)
        before = str(module)
        with pytest.raises(LoopmorphError) as info:
            last.apply(module.operation)
        assert str(module) == before
    return info.value


def test_a_dependence_that_would_be_reversed() -> None:
    error = refusal(diagonal().text, Partition("net", "j", (3, 3)))
    assert "layer 'net': running the parts in turn would reverse the flow dependence" in str(error)
    assert "carried by 'i' at distance (i=1, j=-1)" in str(error)


def test_a_bound_that_is_not_constant() -> None:
    error = refusal(triangle().text, Partition("net", "j", (2, 3)))
    assert str(error) == "layer 'net': the extent of 'j' is no constant"


def test_a_loop_that_does_not_start_at_0() -> None:
    copy = "%a = affine.load %x[%i] : {x}\naffine.store %a, %y[%i] : {y}"
    source = small_program({"i": "2 to 8"}, copy, {"x": (8,), "y": (8,)})
    error = refusal(source.text, Partition("net", "i", (3, 3)))
    assert str(error) == "layer 'net': loop 'i' does not start at 0 with step 1"


def test_a_vectorised_nest() -> None:
    copy = "%a = affine.load %x[%i, %j] : {x}\naffine.store %a, %y[%i, %j] : {y}"
    source = small_program({"i": 4, "j": 16}, copy, {"x": (4, 16), "y": (4, 16)})
    error = refusal(source.text, Vectorize("net", "j", 8), Partition("net", "i", (2, 2)))
    assert "already vectorised" in str(error)


def test_a_loop_beside_others() -> None:
    text = """func.func @main(%x: memref<4x8xf32>, %y: memref<4x8xf32>) {
      affine.for %i = 0 to 4 {
        %c = arith.constant 0.0 : f32
        affine.store %c, %y[%i, 0] : memref<4x8xf32>
        affine.for %j = 0 to 8 {
          %a = affine.load %x[%i, %j] : memref<4x8xf32>
          affine.store %a, %y[%i, %j] : memref<4x8xf32>
        } {morph.iter = "j"}
      } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
      return }"""
    error = refusal(text, Partition("net", "j", (2, 6)))
    assert str(error) == "layer 'net': loop 'i' around 'j' holds more than one loop"
