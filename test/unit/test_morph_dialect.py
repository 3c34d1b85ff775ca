"""The `morph` transform dialect and schedules made of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch_mlir import ir

from loopmorph.dialects.morph import apply_schedule, dialect, load, operation_name, parse_schedule, schedule_text
from loopmorph.dialects.morph_attributes import attribute_text, attribute_value
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.pipeline import run_pipeline
from loopmorph.passes.registry import all_passes
from loopmorph.passes.transformation import Transformation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))
from expose import expose, visible

SOURCE = """
func.func @f(%x: memref<8xf32>, %v: f32) {
  affine.for %i = 0 to 8 {
    affine.store %v, %x[%i] : memref<8xf32>
  } {morph.layer = "a"}
  affine.for %i = 0 to 8 {
    affine.store %v, %x[%i] : memref<8xf32>
  } {morph.layer = "b"}
  return
}
"""
STEPS = ["test-rename-layer{layer=a to=c}", "test-rename-layer{layer=b to=d only=0 mark=true tags=p,q}"]
TYPE = "(!transform.any_op) -> (!transform.any_op, !transform.any_op)"
RENAME = f'"morph.test_rename_layer"(%m) {{layer = "a", to = "b"}} : {TYPE}'
RENAME_AGAIN = RENAME.replace("%m", "%c").replace('layer = "a"', 'layer = "b"')
LOOPS = '%loops = transform.structured.match ops{["affine.for"]} in %m : (!transform.any_op) -> !transform.any_op'


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with visible(*expose(tmp_path_factory.mktemp("metadata"))):
        yield


@pytest.fixture
def context() -> Iterator[ir.Context]:
    with ir.Context() as context, ir.Location.unknown():
        yield context


@pytest.fixture
def module(context: ir.Context) -> ir.Module:
    return ir.Module.parse(SOURCE)


def schedule(*lines: str) -> str:
    """A schedule whose first operation is on line 3."""
    head = "module attributes {transform.with_named_sequence} {"
    sequence = "transform.named_sequence @__transform_main(%m: !transform.any_op {transform.consumed}) {"
    return "\n".join([head, sequence, *lines, "transform.yield } }"])


def test_every_transformation_is_an_operation() -> None:
    transformations = {n for n, cls in all_passes().items() if issubclass(cls, Transformation)}
    assert "test-rename-layer" in transformations
    assert {op.OPERATION_NAME for op in dialect().operations} == {operation_name(name) for name in transformations}


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("morph-split", "morph.split"),
        ("morph-unroll-jam", "morph.unroll_jam"),
        ("other-morph-x", "morph.other_morph_x"),
    ],
)
def test_operation_names(name: str, operation: str) -> None:
    assert operation_name(name) == operation


def test_loading_again_changes_nothing_and_contexts_are_independent() -> None:
    first, second = ir.Context(), ir.Context()
    for context in (first, second, first):
        load(context)
    for context in (second, first):
        with context, ir.Location.unknown():
            module = ir.Module.parse(SOURCE)
            apply_schedule(module, schedule_text(STEPS))
            assert recorded_steps(module.operation) == STEPS


def test_a_schedule_does_what_the_pipeline_does(module: ir.Module) -> None:
    through_pipeline = ir.Module.parse(SOURCE)
    run_pipeline(through_pipeline, ",".join(STEPS))
    apply_schedule(module, schedule_text(STEPS))
    assert str(module) == str(through_pipeline)


def test_the_recorded_steps_replay(module: ir.Module) -> None:
    apply_schedule(module, schedule_text(STEPS))
    again = ir.Module.parse(SOURCE)
    apply_schedule(again, schedule_text(recorded_steps(module.operation)))
    assert str(again) == str(module)


def test_schedule_text_takes_objects_and_texts_and_says_the_kind(context: ir.Context) -> None:
    from loopmorph_test_plugin import RenameLayer

    by_object = [RenameLayer("a", "c"), RenameLayer("b", "d", only=(0,), mark=True, tags=("p", "q"))]
    assert schedule_text(by_object) == schedule_text(STEPS) == schedule_text([",".join(STEPS)])
    assert schedule_text(STEPS).count('morph.kind = "loop"') == 2
    parsed = parse_schedule(schedule_text(STEPS), context)
    assert str(parse_schedule(str(parsed), context)) == str(parsed)


def test_the_empty_schedule(module: ir.Module) -> None:
    before = str(module)
    apply_schedule(module, schedule_text([]))
    assert str(module) == before


@pytest.mark.parametrize("step", ["cse", "test-count-loops{limit=3}"])
def test_only_transformations_are_steps(step: str) -> None:
    with pytest.raises(ArgumentError, match=r"argument 'steps': .* is not a transformation"):
        schedule_text([step])


def test_the_nest_goes_to_upstream_operations(module: ir.Module) -> None:
    apply_schedule(module, schedule(f"%c, %n = {RENAME}", "transform.loop.unroll %n {factor = 4} : !transform.any_op"))
    assert str(module).count("step 4") == 1


def test_a_parsed_schedule_applies_to_many_modules(module: ir.Module, context: ir.Context) -> None:
    parsed = parse_schedule(schedule_text(STEPS), context)
    other = ir.Module.parse(SOURCE)
    for target in (module, other):
        apply_schedule(target, parsed)
    assert str(module) == str(other)


def test_a_schedule_of_another_context_is_refused(module: ir.Module) -> None:
    foreign = parse_schedule(schedule_text(STEPS), ir.Context())
    with pytest.raises(ArgumentError, match="another MLIR context"):
        apply_schedule(module, foreign)


def test_a_long_array_attribute_may_be_dense(module: ir.Module) -> None:
    step = RENAME.replace('to = "b"', 'to = "b", only = array<i64: 0>')
    apply_schedule(module, schedule(f"%c, %n = {step}"))
    assert recorded_steps(module.operation) == ["test-rename-layer{layer=a to=b only=0}"]


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        (
            (LOOPS, f"%c, %n = {RENAME}", "transform.loop.unroll %loops {factor = 2} : !transform.any_op"),
            "line 5, column 1",
        ),
        ((f"%c, %n = {RENAME}", f"%d, %o = {RENAME}"), "line 4, column 10"),
        (
            (
                f"%c, %n = {RENAME}",
                f"%d, %o = {RENAME_AGAIN}",
                "transform.loop.unroll %n {factor = 2} : !transform.any_op",
            ),
            "line 5, column 1",
        ),
    ],
    ids=["loop taken before", "module consumed twice", "nest of an earlier step"],
)
def test_a_stale_handle_is_an_error_of_the_interpreter(module: ir.Module, lines: tuple[str, ...], place: str) -> None:
    with pytest.raises(IllegalTransform, match=f"^schedule {place}: op uses a handle invalidated by a previously"):
        apply_schedule(module, schedule(*lines))


def test_errors_of_a_step_come_out_as_they_are(module: ir.Module) -> None:
    with pytest.raises(ArgumentError, match="argument 'layer': no nest of layer 'z'"):
        apply_schedule(module, schedule_text(["test-rename-layer{layer=z to=b}"]))
    apply_schedule(module, schedule_text(STEPS))


def test_failures_of_upstream_operations_are_one_line(module: ir.Module) -> None:
    functions = LOOPS.replace("affine.for", "func.func")
    lines = (functions, "transform.loop.unroll %loops {factor = 2} : !transform.any_op")
    with pytest.raises(
        IllegalTransform, match=r"^schedule line 4, column 1: failed to unroll, incorrect type of payload$"
    ):
        apply_schedule(module, schedule(*lines))


def test_the_handle_must_be_one_module(module: ir.Module) -> None:
    step = RENAME.replace("%m", "%loops")
    with pytest.raises(ArgumentError, match=r"expects a handle to one builtin\.module, got affine\.for, affine\.for"):
        apply_schedule(module, schedule(LOOPS, f"%c, %n = {step}"))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ('layer = "a"', "'morph.test_rename_layer' attribute 'to': missing; expected a string"),
        (
            'layer = "a", to = "b", tag = 1',
            "attribute 'tag': unknown attribute (accepted: layer, to, only, mark, tags)",
        ),
        ('layer = "a", to = @b', "attribute 'to': expected a string, got @b"),
        ('layer = "a", to = "b", only = [true]', "attribute 'only': expected an array of integers"),
        ('layer = "a", to = "b", only = 1 : i64', "attribute 'only': expected an array of integers"),
        ('layer = "a", to = "b", tags = [1, 2]', "attribute 'tags': expected an array of strings"),
        ('layer = "a", to = "b", mark = 1 : i64', "attribute 'mark': expected true or false, got 1 : i64"),
        ('layer = "a", to = "b", morph.kind = "neural"', 'attribute \'morph.kind\': expected "loop", got "neural"'),
    ],
)
def test_the_verifier_names_operation_and_attribute(context: ir.Context, attributes: str, message: str) -> None:
    text = schedule(f'%c, %n = "morph.test_rename_layer"(%m) {{{attributes}}} : {TYPE}')
    with pytest.raises(ArgumentError) as caught:
        parse_schedule(text, context)
    assert caught.value.message.startswith("line 3, column 10: 'morph.test_rename_layer' attribute")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (schedule("%c, %n = )"), "line 3, column 9: expected operation name in quotes"),
        (
            schedule(f"%c, %n = {RENAME.replace('rename', 'renam')}"),
            "line 3, column 10: unknown operation 'morph.test_renam_layer'; did you mean",
        ),
        (schedule(f"%c = {RENAME}"), "line 3, column 1: "),
        ("module {}", "it has no transform.named_sequence @__transform_main"),
        (schedule(f"%c, %n = {RENAME}").replace("consumed", "readonly"), "line 2, column 1: argument #0 is consumed"),
    ],
    ids=["syntax", "unknown operation", "result count", "no entry", "not marked consumed"],
)
def test_malformed_schedules(context: ir.Context, text: str, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_schedule(text, context)
    assert caught.value.argument == "schedule"
    assert caught.value.message.startswith(message)
    assert "\n" not in caught.value.message


values: st.SearchStrategy[tuple[Any, Any]] = st.one_of(
    st.tuples(st.just(int), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(bool), st.booleans()),
    st.tuples(st.just(str), st.text(max_size=12)),
    st.tuples(st.just(tuple[int, ...]), st.lists(st.integers(-99, 99), max_size=3).map(tuple)),
    st.tuples(st.just(tuple[str, ...]), st.lists(st.text(max_size=5), max_size=3).map(tuple)),
)


@given(values)
def test_attributes_carry_every_value(value: tuple[Any, Any]) -> None:
    kind, content = value
    with ir.Context():
        read = attribute_value(kind, ir.Attribute.parse(attribute_text(content)))
    assert read == content
    assert type(read) is type(content)
