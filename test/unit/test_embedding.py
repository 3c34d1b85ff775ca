"""Embedding: docs/embedding.md is what runs here, and somebody's context stays as it was."""

from __future__ import annotations

import ctypes
import gc
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import object_file
import pass_manager
import pytest
from torch_mlir import ir
from torch_mlir.passmanager import PassManager

import loopmorph.passes
from loopmorph.dialects import morph
from loopmorph.passes import ArgumentError, IllegalTransform, Pipeline, all_passes, parse_pipeline, run_pipeline
from loopmorph.passes.plug_ins import plug_ins
from loopmorph.pipelines.codegen.library import Library, link
from loopmorph.pipelines.schedules import loader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))
from expose import expose, visible, write_metadata

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "embedding.md").read_text()
BLOCKS = re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
SOURCE = """
func.func @f(%x: memref<64xf32>) {
  affine.for %i = 0 to 64 {
    %v = affine.load %x[%i] : memref<64xf32>
    %w = arith.addf %v, %v : f32
    affine.store %w, %x[%i] : memref<64xf32>
  } {morph.layer = "double", morph.iter = "i"}
  return
}
"""
CONVOLUTION = """
func.func @conv(%x: tensor<1x4x6x6xf32>, %w: tensor<8x4x3x3xf32>) -> tensor<1x8x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %0 = tensor.empty() : tensor<1x8x4x4xf32>
  %1 = linalg.fill {morph.layer = "conv"} ins(%zero : f32) outs(%0 : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  %2 = linalg.conv_2d_nchw_fchw {morph.layer = "conv"}
      ins(%x, %w : tensor<1x4x6x6xf32>, tensor<8x4x3x3xf32>) outs(%1 : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  return %2 : tensor<1x8x4x4xf32>
}
"""
SPLIT = "morph-split{layer=double iter=i factor=8}"
LEAN = ["func", "affine", "memref", "arith"]


@pytest.fixture
def context() -> ir.Context:
    """A context as a careful project makes it: with no more dialects than it needs."""
    return ir.Context(load_on_create_dialects=LEAN)


@pytest.fixture
def module(context: ir.Context) -> ir.Module:
    return ir.Module.parse(SOURCE, context=context)


@pytest.fixture
def plug_in(tmp_path: Path) -> Iterator[None]:
    with visible(*expose(tmp_path)):
        yield


# --- the page ---


@pytest.mark.parametrize(("path", "code"), BLOCKS, ids=[path for path, _ in BLOCKS])
def test_the_code_on_the_page_is_that_of_a_file(path: str, code: str) -> None:
    assert code in (ROOT / path).read_text()


def test_no_code_on_the_page_is_without_a_file() -> None:
    assert PAGE.count("```") == 2 * len(BLOCKS) > 0


def test_the_names_on_the_page_are_the_surface() -> None:
    tables = PAGE.partition("## What there is")[2].partition("\n## ")[0].split("\n\n| in `")[1:]
    for module, table in zip((loopmorph.passes, morph), tables, strict=True):
        head, _, rows = table.partition("\n|---")
        assert head.startswith(module.__name__)
        first_cells = " ".join(re.findall(r"^\| ([^|]*) \|", rows, re.MULTILINE))
        assert set(re.findall(r"`(\w+)", first_cells)) == set(module.__all__)
        assert all(getattr(module, name).__doc__ for name in module.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match=r"module 'loopmorph\.passes' has no attribute 'no_such_name'"):
        _ = loopmorph.passes.no_such_name
    assert dir(loopmorph.passes) == sorted(loopmorph.passes.__all__)


def test_the_surface_takes_no_torch() -> None:
    code = """if True:
        import sys, loopmorph.passes as passes
        assert "torch_mlir" not in sys.modules
        from loopmorph.dialects import morph
        all(getattr(each, name) for each in (passes, morph) for name in each.__all__)
        passes.all_passes()
        sys.exit("torch" in sys.modules)"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- the examples ---


def test_their_pass_manager_runs_passes_of_both(module: ir.Module) -> None:
    pass_manager.optimise(module)
    text = str(module)
    assert "affine.for %arg1 = 0 to 8" in text and text.count("arith.addf") == 8
    assert text.count("morph-split") == text.count("morph-unroll") == 1
    with pytest.raises(IllegalTransform, match=r"^module: 1 layers, fewer than 2$"):
        run_pipeline(module, Pipeline((pass_manager.RequireLayers(2),)))
    assert "their-require-layers" not in all_passes()


def test_linalg_becomes_an_object_file() -> None:
    code = Library(link(object_file.object_file(CONVOLUTION)), prefix="")
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(shape, dtype=np.float32) for shape in ((1, 4, 6, 6), (8, 4, 3, 3)))
    found = np.full((1, 8, 4, 4), np.nan, np.float32)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(code.address_of("conv"))
    call(x.ctypes.data, w.ctypes.data, found.ctypes.data)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    np.testing.assert_allclose(found, np.einsum("nchwij,ocij->nohw", windows, w), rtol=1e-5, atol=1e-5)


def test_a_plug_in_adds_a_schedule(plug_in: None) -> None:
    text = loader.load_schedule("test-slim-groups", layer="conv", g=4)
    steps = morph.schedule_steps(text, ir.Context())
    assert [str(step) for step in steps] == [
        "morph-bottleneck{layer=conv iter=co factor=2}",
        "morph-group{layer=conv iters=co,ci factor=4}",
    ]


def test_a_plug_in_adds_a_proxy(plug_in: None) -> None:
    import torch
    from torch import nn

    from loopmorph.pipelines.data.batches import Batch
    from loopmorph.pipelines.legality.signals import SIGNALS, Setting, all_signals, build_signals
    from loopmorph.pipelines.training.task import Classification

    assert [name for name in all_signals() if name not in SIGNALS] == ["test-gradient-norm"]
    images = torch.ones(2, 1, 2, 2)
    task = Classification(Batch(images, torch.tensor([0, 1]), 2, "made for a test"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    signal = build_signals(["test-gradient-norm"], Setting(task, device="cpu"))["test-gradient-norm"]
    nn.init.zeros_(model[1].weight)
    assert signal.measure(model) == signal.measure(model)
    assert 0 < signal.measure(model).value < 10 and not model[1].weight.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("// A schedule.\nmodule {}", r"someone offers 'bad\.mlir', which lacks the line '// \$layer: name'"),
        (
            "// A.\n// $layer: name  it\nmodule { transform.loop.unroll %0 }",
            r"offers 'bad\.mlir', which holds 'transform\.loop\.unroll'; expected transformations alone",
        ),
        (b"\xff", r"someone offers 'bad\.mlir', which is not UTF-8"),
    ],
    ids=["no layer", "upstream operations", "no text"],
)
def test_bad_schedules_of_plug_ins_name_the_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    name = f"offered_{abs(hash(text))}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "bad.mlir").write_bytes(text if isinstance(text, bytes) else text.encode())
    write_metadata(tmp_path, "someone", "1.0", {loader.ENTRY_POINT_GROUP: {"theirs": name}})
    with visible(str(tmp_path)), pytest.raises(ArgumentError, match=f"argument 'schedules': .*{message}"):
        loader.schedules()


def test_what_a_plug_in_offers_has_a_type(tmp_path: Path) -> None:
    write_metadata(tmp_path, "someone", "1.0", {"loopmorph.signals": {"theirs": "math:pi"}})
    message = (
        r"argument 'signals': the plug-in entry point 'theirs = math:pi' does not load: expected a table, got float"
    )
    with visible(str(tmp_path)), pytest.raises(ArgumentError, match=message):
        list(plug_ins("loopmorph.signals", dict, "a table"))


# --- their context ---

WATCHED = ("affine", "arith", "func", "memref", "irdl", "transform", "morph", "linalg", "llvm", "vector")


def loaded(context: ir.Context) -> set[str]:
    return {name for name in WATCHED if context.is_dialect_loaded(name)}


def test_dialects_are_loaded_as_documented(context: ir.Context, module: ir.Module) -> None:
    run_pipeline(module, SPLIT)
    assert loaded(context) == set(LEAN)
    threads = context.get_num_threads()
    morph.load(context)
    assert {"morph", "irdl", "transform"} <= loaded(context)
    assert not context.allow_unregistered_dialects and context.get_num_threads() == threads
    morph.apply_schedule(module, morph.schedule_text(["morph-unroll{layer=double iter=i.1 factor=8}"]))
    assert str(module).count("arith.addf") == 8


def test_no_context_is_current_afterwards(module: ir.Module) -> None:
    parse_pipeline(SPLIT).add_to(PassManager("builtin.module", context=module.context))
    run_pipeline(module, SPLIT)
    with pytest.raises(ArgumentError):
        run_pipeline(module, "morph-split{layer=none iter=i factor=8}")
    assert ir.Context.current is None


def test_another_context_may_be_current(module: ir.Module) -> None:
    with ir.Context(), ir.Location.unknown():
        run_pipeline(module, SPLIT)
        morph.apply_schedule(module, morph.schedule_text(["morph-unroll{layer=double iter=i.1 factor=8}"]))
    assert str(module).count("arith.addf") == 8


def test_handlers_stay_and_none_is_added(context: ir.Context, module: ir.Module) -> None:
    seen: list[str] = []

    def note(diagnostic: ir.Diagnostic) -> bool:
        seen.append(diagnostic.message)
        return True

    handler = context.attach_diagnostic_handler(note)
    failing = (
        lambda: run_pipeline(module, "morph-split{layer=none iter=i factor=8}"),
        lambda: run_pipeline(module, "func.func(affine-super-vectorize{virtual-vector-size=0})"),
        lambda: morph.apply_schedule(module, morph.schedule_text(["morph-unroll{layer=none iter=i factor=2}"])),
        lambda: morph.parse_schedule("module {", context),
    )
    for number, fail in enumerate(failing):
        with pytest.raises((ArgumentError, IllegalTransform)):
            fail()
        ir.Location.unknown(context).emit_error(f"theirs {number}")
    assert seen == [f"theirs {number}" for number in range(len(failing))]
    assert handler.attached and not handler.had_error
    handler.detach()


def test_no_context_is_kept() -> None:
    context = ir.Context()
    morph.load(context)
    morph.apply_schedule(ir.Module.parse(SOURCE, context=context), morph.schedule_text([SPLIT]))
    gone = weakref.ref(context)
    del context
    gc.collect()
    assert gone() is None


def test_two_threads_with_a_context_each() -> None:
    """They begin at the same time, without any pass or dialect loaded, and switch as often as Python lets them."""
    results: dict[int, list[str]] = {0: [], 1: []}
    start = threading.Barrier(2, timeout=60)

    def work(number: int) -> None:
        start.wait()
        for _ in range(3):
            module = ir.Module.parse(SOURCE, context=ir.Context(load_on_create_dialects=LEAN))
            run_pipeline(module, f"canonicalize,{SPLIT},cse")
            step = f"morph-unroll{{layer=double iter=i.1 factor={(2, 4)[number]}}}"
            morph.apply_schedule(module, morph.schedule_text([step]))
            results[number].append(str(module))

    for cached in (all_passes, morph.dialect):
        cached.cache_clear()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in results]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert [len(set(texts)) for texts in results.values()] == [1, 1]
    assert [texts[0].count("arith.addf") for texts in results.values()] == [2, 4]
    assert [len(texts) for texts in results.values()] == [3, 3]


# --- bad input ---


def erased() -> ir.Operation:
    module = ir.Module.parse("module { module {} }", context=ir.Context())
    inner = module.body.operations[0].operation
    inner.erase()
    return inner


def without_terminator() -> ir.Module:
    module = ir.Module.parse("func.func @f() { return }", context=ir.Context())
    module.body.operations[0].operation.regions[0].blocks[0].operations[0].operation.erase()
    return module


class OtherModule:
    """As `ir.Module` of other bindings."""

    operation = None


@pytest.mark.parametrize("use", [lambda m: run_pipeline(m, SPLIT), lambda m: morph.apply_schedule(m, "module {}")])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: None, ArgumentError, "'module': expected an ir.Module of torch_mlir, got NoneType"),
        (OtherModule, ArgumentError, r"'module': expected an ir.Module of torch_mlir, got test_embedding\.OtherModule"),
        (lambda: "module {}", ArgumentError, "'module': expected an ir.Module of torch_mlir, got str"),
        (erased, ArgumentError, "'module': it is not there any more: the operation has been invalidated"),
        (
            lambda: ir.Module.parse(SOURCE, context=ir.Context()).body.operations[0],
            ArgumentError,
            r"'module': expected a builtin\.module, got a func\.func",
        ),
        (without_terminator, IllegalTransform, "-:1:1: empty block: expect at least a terminator"),
    ],
    ids=["none", "other bindings", "text", "erased", "function", "invalid"],
)
def test_what_is_no_module(use: Callable[[Any], None], make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        use(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pipeline", [None, 3, b"cse", ("cse",)])
def test_what_is_no_pipeline(module: ir.Module, pipeline: Any) -> None:
    with pytest.raises(ArgumentError, match=f"'pipeline': expected a text, got {type(pipeline).__name__}"):
        run_pipeline(module, pipeline)


def test_what_is_no_schedule(module: ir.Module) -> None:
    with pytest.raises(ArgumentError, match=r"'schedule': expected a text or an ir\.Module of torch_mlir, got int"):
        morph.apply_schedule(module, 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'schedule': expected a text, got NoneType"):
        morph.parse_schedule(None, module.context)  # type: ignore[arg-type]


def test_what_is_no_pass_manager_of_modules(context: ir.Context) -> None:
    pipeline = parse_pipeline("cse")
    with pytest.raises(ArgumentError, match=r"'manager': expected a PassManager of torch_mlir, got .*Context$"):
        pipeline.add_to(context)
    for anchor in ("func.func", "any"):
        with pytest.raises(ArgumentError, match=rf"'manager': .* of builtin\.module, got one of {anchor}$"):
            pipeline.add_to(PassManager(anchor, context=context))


def test_what_is_no_extra_pass() -> None:
    with pytest.raises(ArgumentError, match="'passes': extra offers <class 'int'>, which is not a subclass of Pass"):
        parse_pipeline("cse", extra=[int])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="'morph-split' is defined twice, by loopmorph or a plug-in and by extra"):
        parse_pipeline("cse", extra=[all_passes()["morph-split"]])


def test_an_extra_pass_is_a_hint_in_its_own_text_alone() -> None:
    text = "their-require-layer"
    with pytest.raises(ArgumentError, match="did you mean 'their-require-layers'"):
        parse_pipeline(text, extra=[pass_manager.RequireLayers])
    with pytest.raises(ArgumentError, match=f"unknown pass '{text}'") as caught:
        parse_pipeline(text)
    assert "their-require-layers" not in str(caught.value)


def test_what_is_no_context_for_the_dialect() -> None:
    with pytest.raises(ArgumentError, match=r"'context': expected an ir\.Context of torch_mlir, got NoneType"):
        morph.load(None)


def test_another_morph_dialect_is_refused() -> None:
    context = ir.Context()
    irdl = ir.Module.parse("irdl.dialect @morph { irdl.operation @theirs {} }", context=context)
    with context:
        from torch_mlir.dialects import irdl as bindings

        bindings.load_dialects(irdl)
    with pytest.raises(ArgumentError, match=r"'context': it has a dialect 'morph' without the operation morph\.\w+: "):
        morph.load(context)
