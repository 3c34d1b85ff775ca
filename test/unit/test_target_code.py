"""Code for each target: what it computes, which instructions it has, and how a library for several chooses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hot_loops import Loop, disassembled, disassembler, hot_loop
from linked import Linked
from torch import nn

import loopmorph as lm
from loopmorph.passes import marks
from loopmorph.passes.analysis.choice import RegisterBlock
from loopmorph.passes.scheduling.register_block import Work, cost, register_blocks
from loopmorph.passes.target.instructions import required_features, why_not_here
from loopmorph.passes.target.target import accepted_names, named_target
from loopmorph.pipelines.bench.contenders import peers_limits
from loopmorph.pipelines.codegen.check import UncheckedWarning
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.export.entry_points import symbol_name
from loopmorph.pipelines.codegen.export.targets import read_targets
from loopmorph.pipelines.codegen.jit import Jitted
from loopmorph.pipelines.codegen.lowered import lower
from loopmorph.pipelines.codegen.native import native_code
from loopmorph.pipelines.export import Exported
from loopmorph.pipelines.network import copy_module

ONCE = Path(__file__).resolve().parents[2] / "test" / "export" / "once.c"
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
LAYERS = {"0": "3x3", "1": "depthwise", "2": "1x1"}
# Of the instructions of each layer's hot loop, the least part that multiplies vectors and adds.
SHARES = {"x86_64": 0.45, "x86_64_v3": 0.45, "x86_64_v4": 0.55, "aarch64": 0.6}
# Of other targets' registers and instructions.
ABSENT = {
    "x86_64": "%[yz]mm|%k[1-7]|\tv[a-z]",
    "x86_64_v3": r"%zmm|%k[1-7]|%[xy]mm(1[6-9]|2\d|3[01])\b",
    "x86_64_v4": "%tmm",
}
SEVERAL = ("x86_64_v4", "x86_64_v3", "x86_64")


@pytest.fixture(scope="module")
def network() -> lm.Program:
    """A 3x3, a depthwise and a 1x1 layer, none of them by Winograd."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Conv2d(32, 64, 1)]
    program = lm.import_model(nn.Sequential(*layers).eval(), (torch.randn(1, 32, 16, 16),))
    return program.apply("morph-choose{layer=0 algorithm=direct}")


@pytest.fixture(scope="module")
def library(network: lm.Program, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """For several targets, two threads and with the weights in it."""
    if not runs(SEVERAL[0]):
        pytest.skip("needs x86-64 with AVX-512")
    out, how = tmp_path_factory.mktemp("several"), {"weights": "embedded", "threads": 2, "check": False}
    return lm.export(network, out=out, name="net", target=", ".join(reversed(SEVERAL)), **how)  # type: ignore[arg-type]


def runs(target: str) -> bool:
    return why_not_here(named_target(target)) is None


def expected(network: lm.Program) -> torch.Tensor:
    with torch.no_grad():
        return network.model(*network.example_inputs)


def outputs(printed: str) -> torch.Tensor:
    return torch.tensor([float(word) for word in printed.split()])


def run(*words: str | Path, codes: tuple[int, ...] = (0,), **environment: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def need(*tools: str) -> None:
    missing = [each for each in tools if shutil.which(each) is None]
    if missing:
        pytest.skip(f"this computer has no {', '.join(missing)}")


def stored_input(network: lm.Program, folder: Path) -> Path:
    (x,) = network.example_inputs
    path = folder / "input"
    path.write_bytes(x.numpy().tobytes())
    return path


def check_shares(loops: Mapping[str, Loop | None], target: str) -> None:
    found = {layer: loop for layer, loop in loops.items() if loop is not None}
    assert set(found) == set(LAYERS)
    low = {LAYERS[layer]: f"{loop.share:.2f}: {loop}" for layer, loop in found.items() if loop.share < SHARES[target]}
    assert not low


# -- in this process


@pytest.mark.parametrize("target", SEVERAL)
def test_in_this_process(network: lm.Program, tmp_path: Path, target: str) -> None:
    """What it computes, that it has the target's instructions alone, and how dense its hot loops are."""
    if not runs(target) or disassembler("x86_64") is None:
        pytest.skip("needs such a processor and objdump")
    processor = named_target(target)
    lowered = lower(copy_module(network.module), processor)
    layers = {symbol_name(op): marks.get_text(op, marks.KERNEL) for op in lowered.module.body.operations}
    code = Jitted(lowered)
    executable = Executable(network, 1, processor, native=native_code(code, lowered.interface))
    torch.testing.assert_close(executable(*network.example_inputs), expected(network), **CLOSE)
    path = tmp_path / "code.o"
    path.write_bytes(code.object_file())
    functions = {name: text for name, text in disassembled(path, "x86_64").items() if layers.get(name)}
    assert [name for name, text in functions.items() if re.search(ABSENT[target], text)] == []
    check_shares({layers[name]: hot_loop(text) for name, text in functions.items()}, target)


def test_a_processor_that_has_more_gives_the_layout() -> None:
    here = [each for each in map(named_target, accepted_names()) if each.arch == os.uname().machine]
    lacking = [each for each in here if why_not_here(each) is not None]
    if not lacking:
        pytest.skip("this processor has all that is known")
    model, x = nn.Linear(16, 16).eval(), torch.randn(1, 16)
    compiled = lm.compile(model.half(), (x.half(),), target=max(lacking, key=lambda each: len(required_features(each))))
    torch.testing.assert_close(compiled(x.half()), model(x.half()).detach(), rtol=1e-2, atol=1e-2)


# -- on another processor


def test_under_emulation(network: lm.Program, tmp_path: Path) -> None:
    """AArch64, compiled by clang from LLVM IR."""
    clang = next((each for each in ("clang-19", "clang-20", "clang") if shutil.which(each)), "clang-19")
    need(clang, "aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objdump", "qemu-aarch64")
    how: dict[str, Any] = {"format": "llvm-ir", "weights": "embedded"}
    with pytest.warns(UncheckedWarning, match="cannot run on this computer: it is for aarch64"):
        lm.export(network, out=tmp_path, name="net", target="aarch64", **how)
    code, program = tmp_path / "code.o", tmp_path / "once"
    run(clang, "--target=aarch64-linux-gnu", "-O3", "-Wno-override-module", "-c", tmp_path / "net_code.ll", "-o", code)
    sources = [ONCE, tmp_path / "net.c", code]
    run("aarch64-linux-gnu-gcc", "-static", "-O1", f"-I{tmp_path}", *sources, "-o", program, "-lm", "-lpthread")
    name, printed = run("qemu-aarch64", program, stored_input(network, tmp_path)).splitlines()
    assert name == "aarch64"
    torch.testing.assert_close(outputs(printed), expected(network).reshape(-1), **CLOSE)
    loops = [loop for text in disassembled(code, "aarch64").values() if (loop := hot_loop(text)) is not None]
    assert len(loops) == len(LAYERS)
    check_shares(dict(zip(LAYERS, loops, strict=True)), "aarch64")


# -- several targets in one library


def test_the_best_that_runs_is_chosen(network: lm.Program, library: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = Linked(library)
    for asked, chosen in (("", SEVERAL[0]), *((each, each) for each in SEVERAL)):
        monkeypatch.setenv("LOOPMORPH_TARGET", asked)
        with linked.model() as model:
            assert linked.target(model) == chosen
            torch.testing.assert_close(linked.run(model, network.example_inputs)[0], expected(network), **CLOSE)
    monkeypatch.setenv("LOOPMORPH_TARGET", "zen9")
    there = "there is code for x86_64_v4, x86_64_v3, x86_64"
    assert linked.refusal() == (3, f"LOOPMORPH_TARGET asks for code for zen9; {there}")


def test_processors_that_lack_something(network: lm.Program, library: Exported, tmp_path: Path) -> None:
    """An emulator ends a program at an instruction that its processor has not."""
    need("qemu-x86_64", "cc")
    program, x = tmp_path / "once", stored_input(network, tmp_path)
    static = library.folder / "libnet.a"
    run("cc", f"-I{library.folder}", ONCE, static, "-o", program, "-lm", "-lpthread")
    for processor, chosen in (("Haswell", "x86_64_v3"), ("Nehalem", "x86_64")):
        name, printed = run("qemu-x86_64", "-cpu", processor, program, x, LOOPMORPH_TARGET="").splitlines()
        assert name == chosen
        torch.testing.assert_close(outputs(printed), expected(network).reshape(-1), **CLOSE)
    said = run("qemu-x86_64", "-cpu", "Nehalem", program, x, codes=(1,), LOOPMORPH_TARGET="x86_64_v3")
    assert re.fullmatch(r"this processor, or its system, has no \w+, which even code for x86_64_v3 needs\n", said)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("x86_64,aarch64", "one library is for one instruction set; got x86_64 and aarch64"),
        ("x86-64-v3,x86_64_v3", "'x86_64_v3' would never be chosen, since 'x86_64_v3' asks for the same instructions"),
        ("x86_64_v3,", "expected names separated by commas, got 'x86_64_v3,'"),
        ([], "expected at least one target"),
    ],
)
def test_targets_that_make_no_library(network: lm.Program, tmp_path: Path, targets: Any, message: str) -> None:
    with pytest.raises(lm.ArgumentError, match=f"'target': .*{message}"):
        lm.export(network, out=tmp_path / "out", name="net", target=targets)
    assert not (tmp_path / "out").exists()


def test_tuning_is_for_one_target(network: lm.Program, tmp_path: Path) -> None:
    with pytest.raises(lm.ArgumentError, match="measured for one target; got x86_64_v3, x86_64"):
        lm.export(network, out=tmp_path, name="net", target="x86_64,x86_64_v3", tune=1.0)


def test_the_order_is_by_what_a_processor_can_do() -> None:
    assert [str(each) for each in read_targets("x86_64,haswell,zen4,x86_64_v2")] == [
        "zen4",
        "haswell",
        "x86_64_v2",
        "x86_64",
    ]


# -- what follows the target


def test_blocks_that_spill_are_avoided() -> None:
    """Eight scalars that each serve one multiply-add take eight of 16 registers where none is broadcast from memory."""
    work = Work(columns=8, rows=64, samples=1, blocks=8, sets=1, depth=64, lanes=8)
    tall, square = RegisterBlock(1, 8, 1), RegisterBlock(1, 4, 2)
    narrow, wide = named_target("x86_64_v3"), named_target("x86_64_v4")
    assert not narrow.broadcasts_in_place and wide.broadcasts_in_place
    assert cost(work, tall, narrow) > 1.3 * cost(work, square, narrow)
    assert cost(work, tall, wide) < 1.3 * cost(work, square, wide)
    assert register_blocks(work, narrow)[0] == square


def test_narrow_units_wait_less_for_memory() -> None:
    balances = [named_target(each).balance for each in (*SEVERAL, "aarch64")]
    assert balances == [2.9, 2.9, 0.725, 1.45]


def test_peers_are_kept_to_a_targets_vectors() -> None:
    if not runs(SEVERAL[0]):
        pytest.skip("needs x86-64 with AVX-512")
    assert peers_limits(named_target("x86_64_v4")) == {}
    assert peers_limits(named_target("haswell"))["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert peers_limits(named_target("x86_64_v2"))["ONEDNN_MAX_CPU_ISA"] == "SSE41"


def test_what_cannot_run_is_not_timed(refused: Callable[[Sequence[str]], str]) -> None:
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    assert f"code for {other} cannot be timed on this computer" in refused(["bench", "resnet18", "--target", other])
