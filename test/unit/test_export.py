"""`export`: what it writes computes what PyTorch does, without Python; nothing of anybody else is lost."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import heads
from linked import Linked
from tagged import tagged
from torch import nn

import loopmorph as lm
from loopmorph.passes.target.instructions import required_features, why_not_here
from loopmorph.passes.target.target import accepted_names, named_target
from loopmorph.pipelines.codegen.check import UncheckedWarning
from loopmorph.pipelines.codegen.export.ports import ports_of
from loopmorph.pipelines.export import Exported
from loopmorph.pipelines.ingress.models import resolve_model
from loopmorph.pipelines.search.saved_model import load_program, save_model
from loopmorph.tools.cli import main

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "test" / "export"
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def library(tagged_program: lm.Program, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return lm.export(tagged_program, out=tmp_path_factory.mktemp("export"), name="tagged")


@pytest.fixture(scope="module")
def team(tagged_program: lm.Program, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """For two threads, with the weights in the library."""
    out = tmp_path_factory.mktemp("team")
    return lm.export(tagged_program, out=out, name="paired", threads=2, weights="embedded", check=False)


def expected() -> torch.Tensor:
    model, inputs = tagged()
    with torch.no_grad():
        return model(*inputs)


def base_target() -> str:
    """The least processor of this computer's instruction set."""
    return os.uname().machine


def run_tool(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- C and C++ programs


@pytest.mark.parametrize("compilers", [("gcc", "g++"), ("clang", "clang++")], ids=lambda pair: pair[0])
def test_programs(library: Exported, tmp_path: Path, compilers: tuple[str, str]) -> None:
    """Both check in 8 threads that all calls agree; with AddressSanitizer, which also sees what is not freed."""
    missing = [each for each in ("cmake", *compilers) if shutil.which(each) is None]
    if missing:
        pytest.skip(f"this computer has no {', '.join(missing)}")
    given = [f"-DCMAKE_C_COMPILER={compilers[0]}", f"-DCMAKE_CXX_COMPILER={compilers[1]}", "-DSANITIZE=ON"]
    run_tool("cmake", "-S", PROGRAMS, "-B", tmp_path, *given, f"-Dtagged_DIR={library.folder}")
    run_tool("cmake", "--build", tmp_path)
    image, words = tagged()[1]
    inputs = tmp_path / "inputs"
    inputs.write_bytes(image.numpy().tobytes() + words.numpy().tobytes())
    in_c, *refusals = run_tool(tmp_path / "in_c", inputs).splitlines()
    in_cpp = run_tool(tmp_path / "in_cpp", inputs)
    for printed in (in_c, in_cpp):
        torch.testing.assert_close(torch.tensor([[float(word) for word in printed.split()]]), expected(), **TOLERANCE)
    assert refusals[:2] == [
        "an input holds an index that lies outside of the table that it is for",
        "an argument is null that must not be, or one is given that must be null",
    ]
    assert refusals[2] == "4 /nowhere/tagged.safetensors cannot be opened: No such file or directory"
    assert re.fullmatch(r"4 .*inputs is not the file that belongs to this library: its size differs .*", refusals[3])
    assert refusals[4].startswith(
        '2 the program was built for "tagged(x)", the library for "tagged(image float32[1,3,8,8]'
    )


def test_the_page_builds_with_cmake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that the build would run is run here, where all is loaded already; then the build finds it done."""
    missing = [each for each in ("cmake", "make", "cc") if shutil.which(each) is None]
    if missing:
        pytest.skip(f"this computer has no {', '.join(missing)}")
    page = (ROOT / "docs" / "export.md").read_text()
    for language, file in (("python", "network.py"), ("cmake", "CMakeLists.txt"), ("c", "main.c")):
        (text,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--cmake-dir"]) == 0
    found = f"-Dloopmorph_DIR={capsys.readouterr().out.strip()}"
    run_tool("cmake", "-S", ".", "-B", "build", "-G", "Unix Makefiles", found, "-DLOOPMORPH_COMMAND=loopmorph")
    (words,) = _planned_exports()
    assert main(words) == 0
    assert _planned_exports() == []
    run_tool("cmake", "--build", "build")
    scores = torch.tensor([[float(line) for line in run_tool("build/scores").splitlines()]])
    model, (x,) = importlib.import_module("network").small()
    torch.testing.assert_close(scores, model(x).detach(), **TOLERANCE)
    os.utime("network.py")
    assert _planned_exports() == [words]


def _planned_exports() -> list[list[str]]:
    """The arguments with which the build in `build` would call loopmorph now."""
    lines = dict.fromkeys(run_tool("cmake", "--build", "build", "--target", "small", "--", "-n").splitlines())
    return [shlex.split(line)[4:] for line in lines if "/loopmorph export network:small " in line]


def test_symbols(library: Exported, team: Exported) -> None:
    if shutil.which("nm") is None:
        pytest.skip("this computer has no nm")
    for exported in (library, team):
        name = exported.name
        shown = run_tool("nm", "-D", "--defined-only", exported.folder / f"lib{name}.so")
        names = {f"{name}_{each}" for each in ("prepare", "run", "free", "message", "target")}
        assert {line.split()[-1] for line in shown.splitlines()} == names
        inside = run_tool("nm", exported.folder / f"lib{name}.a")
        kinds = [line.split()[-2:] for line in inside.splitlines() if len(line.split()) >= 2]
        # What other files of a program might have as well is private; no data can be written.
        assert [symbol for kind, symbol in kinds if kind in "TDBCR" and f"{name}_" not in symbol] == []
        assert [symbol for kind, symbol in kinds if kind in "DdBbC"] == []


def test_threads_without_a_barrier_share_no_name_with_others(tmp_path: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("this computer has no nm")
    folder = tmp_path / "a folder"
    for _ in range(2):  # the second time the files of the first one are written anew
        lm.export(nn.ReLU(), (torch.ones(4, 8),), out=folder, name="one", threads=2, format="object", check=False)
    shown = run_tool("nm", "--extern-only", "--defined-only", folder / "one_code.o")
    assert [name for name in (line.split()[-1] for line in shown.splitlines()) if "one_" not in name] == []


# -- what it computes


def test_two_threads_and_embedded_weights(team: Exported) -> None:
    assert team.files == ("paired.h", "libpaired.so", "libpaired.a", "pairedConfig.cmake", "paired.d")
    linked = Linked(team)
    with linked.model() as model, linked.model() as other:
        for each in (model, other, model):
            torch.testing.assert_close(linked.run(each, tagged()[1])[0], expected(), **TOLERANCE)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_exit_right, args=(linked, model))
        child.start()
        child.join(60)
        assert child.exitcode == 0
    refused = linked.refusal(weights="/some/path")
    assert refused == (1, "the weights are in the library; null is expected for their path")


def _exit_right(linked: Linked, model: object) -> None:
    """In a forked process, whose threads have to be started anew."""
    right = all(torch.allclose(linked.run(model, tagged()[1])[0], expected(), **TOLERANCE) for _ in range(20))  # type: ignore[arg-type]
    os._exit(0 if right else 1)


class _Types(nn.Module):
    """No parameters; tensors of several types, one of them without extents, one without elements."""

    def forward(self, x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kept = torch.where(keep, x, -x)
        return kept.exp(), kept.double().sum(), kept > 0, x[:0]


def test_types(tmp_path: Path) -> None:
    """bfloat16 is rounded to without an instruction for it."""
    model, inputs = _Types(), (torch.randn(3, 5).bfloat16(), torch.rand(3, 5) > 0.5)
    linked = Linked(lm.export(model, inputs, out=tmp_path, target=base_target()))
    header = (tmp_path / "model.h").read_text()
    declared = "const uint16_t *x, const uint8_t *keep, uint16_t *output_0, double *output_1, uint8_t *output_2, "
    assert f"model_run(model_model *model, {declared}uint16_t *output_3);" in header
    with linked.model() as ready:
        found = linked.run(ready, inputs)
        assert linked.status(ready, (inputs[0], torch.empty(0)))[0] == 1  # null
    for ours, theirs in zip(found, model(*inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_weights_of_another_training(library: Exported, tagged_program: lm.Program, tmp_path: Path) -> None:
    """Their file has the same layout, and the code is the same for all values."""
    model, inputs = tagged()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    values = {name: 1.5 * value for name, value in tagged_program.parameters.items() if value.is_floating_point()}
    other = lm.export(tagged_program.with_values(values), out=tmp_path, name="tagged", format="object", check=False)
    weights = tmp_path / "tagged.safetensors"
    assert other.files == ("tagged.h", "tagged.safetensors", "tagged.c", "tagged_code.o", "tagged.d")
    linked = Linked(library)
    with linked.model(str(weights)) as ready:
        torch.testing.assert_close(linked.run(ready, inputs)[0], model(*inputs).detach(), **TOLERANCE)
    content = bytearray(weights.read_bytes())
    content[20] ^= 1  # in the header
    weights.write_bytes(content)
    assert linked.refusal(weights=str(weights)) == (4, f"{weights} holds the weights of another network")


def test_the_weights_are_in_a_known_format(library: Exported, tagged_program: lm.Program) -> None:
    content = (library.folder / "tagged.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    assert (8 + size) % 64 == 0 and header.pop("__metadata__")["format"] == "pt"
    assert set(header) == {"conv.weight", "conv.bias", "words.weight", "linear.weight", "linear.bias"}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32"
        found = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).reshape(entry["shape"])
        assert torch.equal(found, tagged_program.parameters[name])
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data)


SCHEDULES = [
    "morph-bottleneck{layer=conv1 iter=co factor=2},morph-interchange{layer=conv2 order=n,oh,ow,co,ci,kh,kw}",
    "morph-partition{layer=conv2 iter=co sizes=4,12},morph-group{layer=conv2#main.1 iters=co,ci factor=2}",
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_saved_model_as_a_program(plain: lm.Program, tmp_path: Path, schedule: str) -> None:
    """The fine-tuned weights find their places, also in layers that are no convolutions any more; the steps stay."""
    module = plain.apply(schedule).to_module()
    with torch.no_grad():
        for k, tensor in enumerate(module.state_dict().values()):
            tensor.add_(0.1 * k)
    path = tmp_path / "model.pt"
    with path.open("wb") as file:
        save_model(file, module, model="plain", original=plain.model, schedule=schedule)
    found = load_program(path, original=(plain.model, plain.example_inputs))
    assert found.steps == plain.apply(schedule).steps
    held = found.to_module().state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in module.state_dict().items())


def test_a_saved_model_is_exported(tmp_path: Path) -> None:
    original = resolve_model("factories:classifier")
    schedule = "morph-bottleneck{layer=0 iter=co factor=2}"
    module = lm.import_model(original.model, original.example_inputs).apply(schedule).to_module()
    with (tmp_path / "best.pt").open("wb") as file:
        save_model(file, module, model="factories:classifier", seed=0, schedule=schedule)
    words = ["--original", "factories:classifier", "-o", str(tmp_path), "--no-check"]
    assert main(["export", str(tmp_path / "best.pt"), *words]) == 0
    sources = (tmp_path / "best.d").read_text()
    assert sources.startswith(f"{tmp_path / 'best.h'}: \\\n  {tmp_path / 'best.pt'} \\\n")
    assert "/factories.py" in sources and "pipelines/export.py" in sources and "torch/nn" not in sources
    ports = ports_of(lm.import_model(module, original.example_inputs))
    linked, inputs = Linked(Exported("best", tmp_path, (), ports.inputs, ports.outputs)), original.example_inputs
    with linked.model() as ready:
        torch.testing.assert_close(linked.run(ready, inputs)[0], module.eval()(*inputs).detach(), **TOLERANCE)


# -- processors


@pytest.mark.parametrize(("target", "forbidden"), [("x86_64", r"%[yz]mm|\tv[a-z]"), ("x86_64_v3", r"%zmm|%k[0-7]")])
def test_only_the_targets_instructions(tagged_program: lm.Program, tmp_path: Path, target: str, forbidden: str) -> None:
    if shutil.which("objdump") is None or named_target(target).arch != os.uname().machine:
        pytest.skip("needs objdump and x86-64")
    told: list[tuple[str, int, int]] = []
    how: dict[str, Any] = {"target": target, "format": "object", "threads": 2, "check": False}
    lm.export(tagged_program, out=tmp_path, name="tagged", progress=lambda *step: told.append(step), **how)
    assert told == [(stage, done, 1) for stage in ("import", "lower", "compile") for done in (0, 1)]
    code = run_tool("objdump", "-d", "--no-show-raw-insn", tmp_path / "tagged_code.o")
    assert "%xmm" in code and re.search(forbidden, code) is None
    assert ('"avx2"' in (tmp_path / "tagged.c").read_text()) == (target == "x86_64_v3")


def test_a_processor_that_lacks_something(tagged_program: lm.Program, tmp_path: Path) -> None:
    here = [t for t in map(named_target, accepted_names()) if t.arch == os.uname().machine]
    lacking = [t for t in here if why_not_here(t) is not None]
    if not lacking:
        pytest.skip("this processor has all that is known")
    target = max(lacking, key=lambda each: len(required_features(each)))
    with pytest.warns(UncheckedWarning, match="cannot run on this computer: this processor has no "):
        exported = lm.export(tagged_program, out=tmp_path, name="far", target=target)
    status, message = Linked(exported).refusal()
    lacks = str(why_not_here(target)).removeprefix("this processor has no ").split(", ")
    assert status == 3
    assert message in [f"this processor, or its system, has no {each}, which code for {target} needs" for each in lacks]


def test_llvm_ir_for_another_processor(tagged_program: lm.Program, tmp_path: Path) -> None:
    with pytest.warns(UncheckedWarning, match="cannot run on this computer: it is for aarch64"):
        lm.export(tagged_program, out=tmp_path, name="tagged", target="neoverse_v1", format="llvm-ir")
    text = (tmp_path / "tagged_code.ll").read_text()
    assert 'target triple = "aarch64-unknown-linux-gnu"' in text and '"target-features"="+neon"' in text
    (prefetch,) = re.findall(r"^declare .*@llvm\.prefetch.*", text, re.MULTILINE)
    assert prefetch == "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"  # as every version of LLVM reads it
    assert set(re.findall(r"^attributes (#\d+)", text, re.MULTILINE)) == set(re.findall(r"\) (#\d+) \{", text))
    assert "define void @tagged_code_run(ptr" in text and "define internal void @run(" in text
    assert "cpuid" not in (tmp_path / "tagged.c").read_text()


# -- names


class _Nested(nn.Module):
    def forward(
        self, register: torch.Tensor, model: list[torch.Tensor], *, mask: dict[str, torch.Tensor]
    ) -> dict[str, object]:
        total = register + model[0] + model[1].half().float() + mask["a b"]
        return {"sum": total, "pair": (total * 2, total > 0)}


def test_names_of_inputs_and_outputs() -> None:
    x = torch.ones(2, 3)
    nested = lm.import_model(_Nested(), (x, [x, x.double()]), {"mask": {"a b": x}})
    ports = ports_of(nested)
    assert [str(port) for port in ports.inputs] == [
        "register_ float32[2,3]",
        "model_0 float32[2,3]",
        "model_1 float64[2,3]",
        "mask_a_b float32[2,3]",
    ]
    assert [(port.name, port.c_type) for port in ports.outputs] == [
        ("sum", "float"),
        ("pair_0", "float"),
        ("pair_1", "uint8_t"),
    ]
    assert [port.name for port in ports_of(lm.import_model(*heads())).outputs] == ["mask", "label"]


@pytest.mark.parametrize("name", ["", "9x", "a-b", "int", "class", "_x", "a b", "é"])
def test_a_name_that_c_has_not(tagged_program: lm.Program, tmp_path: Path, name: str) -> None:
    with pytest.raises(lm.ArgumentError, match=f"'name': expected a C identifier: .* no keyword; got '{name}'"):
        lm.export(tagged_program, out=tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()
