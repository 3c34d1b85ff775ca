"""Timing of layers and its persistent cache."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_mlir import ir

from loopmorph.passes import marks
from loopmorph.passes.address import find_nest
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.lowering.anonymous_layer import anonymous_text
from loopmorph.passes.lowering.extract_layer import extract_layer
from loopmorph.passes.lowering.to_llvm import layout_passes, plan_functions
from loopmorph.passes.marks import recorded_steps
from loopmorph.passes.nest import functions, nests
from loopmorph.passes.target.detect import native_target
from loopmorph.pipelines.measure.meter import WorkerMeter
from loopmorph.pipelines.measure.timing_cache import TimingCache
from loopmorph.pipelines.measure.worker import Worker
from loopmorph.pipelines.measure.worker_protocol import RunJob
from loopmorph.pipelines.program import Program, import_model
from loopmorph.pipelines.store.cache_file import default_folder


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    return import_model(model.eval(), (torch.randn(1, 4, 6, 6),))


def test_extracted_layer_computes_the_layer(program: Program, worker: Worker) -> None:
    module = extract_layer(program.module.operation, "2")
    assert module.operation.verify()
    assert {nest.layer for nest in nests(module.operation)} == {"2"}
    x = torch.randn(1, 4, 6, 6)
    parameters = {name: tensor.numpy() for name, tensor in program.parameters.items()}
    (got,) = worker.run(RunJob(str(module), parameters, [x.numpy()])).outputs
    torch.testing.assert_close(torch.from_numpy(got), program.model[2](x).detach(), rtol=1e-4, atol=1e-5)


def test_extracting_changes_nothing_and_refuses_unknown_layers(program: Program) -> None:
    before = str(program)
    extract_layer(program.module.operation, "0")
    assert str(program) == before
    with pytest.raises(ArgumentError, match="'layer': no layer 'nothing' in the program"):
        extract_layer(program.module.operation, "nothing")


def test_a_layer_that_adds_to_what_another_began_is_refused() -> None:
    nest = """affine.for %i = 0 to 4 { %0 = affine.load %y[%i] : memref<4xf32>
      affine.store %0, %y[%i] : memref<4xf32> } {morph.layer = "LAYER"}"""
    text = f"""func.func @main(%y: memref<4xf32> {{morph.output = 0}}) {{
      {nest.replace("LAYER", "a")}
      {nest.replace("LAYER", "b")}
      return }}"""
    with ir.Context() as context, ir.Location.unknown():
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        with pytest.raises(ArgumentError, match="layer 'b' adds to a memref whose start value another layer writes"):
            extract_layer(module.operation, "b")


@pytest.fixture(scope="module")
def blocked() -> Program:
    """Layers with as many channels as a vector has lanes."""
    lanes = native_target().lanes
    convolutions = [nn.Conv2d(lanes, lanes, 3, padding=1) for _ in range(3)]
    return import_model(nn.Sequential(*convolutions).eval(), (torch.randn(1, lanes, 4, 4),))


def test_a_closed_layer_takes_the_blocked_layout_and_pads_nothing(blocked: Program) -> None:
    module = extract_layer(blocked.module.operation, "1", closed=True)
    assert module.operation.verify()
    assert [nest.role for nest in nests(module.operation)] == [
        "copy",
        "copy",
        "init",
        "main",
    ]  # two corners of the input
    (function,) = functions(module.operation)
    shapes = [list(ir.MemRefType(a.type).shape) for a in function.entry_block.arguments]
    lanes = native_target().lanes
    assert sorted(shapes) == sorted([[lanes], [lanes, lanes, 3, 3], [1]])  # bias, weight, one element of the input
    for step in layout_passes(native_target()):
        step.run(module.operation)
    assert {len(access.exprs) for access in find_nest(module.operation, "1").accesses} == {5, 6}


def test_what_a_closed_layer_does_with_parameters_is_prepared(blocked: Program) -> None:
    module = extract_layer(blocked.module.operation, "1", closed=True)
    plan_functions(module, native_target())
    run = next(f for f in functions(module.operation) if f.name.value == "run")
    assert any(marks.SCRATCH in each for each in marks.argument_marks(run))
    assert any(marks.PACKED in each for each in marks.argument_marks(run))
    assert str(module).count("affine.for") >= 10


def test_an_extracted_layer_keeps_its_own_schedule(blocked: Program) -> None:
    split = blocked.apply("morph-split{layer=1 iter=ow factor=2},morph-split{layer=0 iter=ow factor=2}")
    module = extract_layer(split.module.operation, "1", closed=True)
    assert recorded_steps(module.operation) == ["morph-split{layer=1 iter=ow factor=2}"]
    text = anonymous_text(module)
    assert "morph-split{layer=layer iter=ow factor=2}" in text and 'morph.layer = "layer"' in text


def test_a_layer_is_timed_once(program: Program, worker: Worker, tmp_path: Path) -> None:
    cache = TimingCache(tmp_path)
    meter = WorkerMeter(worker, cache, rounds=3)
    first = meter.layer(program, program, "0")
    assert first.original > 0 and first.rewritten > 0 and not first.cached
    assert first.speedup == first.original / first.rewritten
    again = meter.layer(program, program, "0")
    assert again.cached and (again.original, again.rewritten) == (first.original, first.rewritten)
    cache.close()


def test_equal_layers_of_other_names_share_an_entry_across_runs(
    program: Program, worker: Worker, tmp_path: Path
) -> None:
    for layer, known in (("0", False), ("2", True)):
        cache = TimingCache(tmp_path)
        assert WorkerMeter(worker, cache, rounds=3).layer(program, program, layer).cached is known
        cache.close()


def test_the_variable_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPMORPH_CACHE", str(tmp_path / "elsewhere"))
    assert default_folder() == tmp_path / "elsewhere"
    cache = TimingCache()
    cache.put("key", (2.0, 1.0))
    cache.close()
    assert (tmp_path / "elsewhere" / "timings.sqlite3").exists()


def test_a_corrupt_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "timings.sqlite3").write_bytes(b"this is no data base" * 100)
    with pytest.warns(UserWarning, match="is corrupt .*begun anew"):
        cache = TimingCache(tmp_path)
    cache.put("key", (2.0, 1.0))
    cache.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = TimingCache(tmp_path)
    assert again.get("key") == (2.0, 1.0)
    again.close()


def test_without_a_writable_folder_times_live_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="times are not kept in"):
        cache = TimingCache(tmp_path / "file" / "cache")
    assert cache.get("key") is None
    cache.put("key", (2.0, 1.0))
    assert cache.get("key") == (2.0, 1.0)
