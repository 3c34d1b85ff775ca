"""`loopmorph-opt`, driven in this process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch_mlir import ir

from loopmorph.tools.opt import OptTool, main
from loopmorph.tools.opt_input import Part, parse, split

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugin"))
from expose import expose, visible

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """func.func @f(%x: memref<8xf32>, %v: f32) {
  affine.for %i = 0 to 8 {
    affine.store %v, %x[%i] : memref<8xf32>
  } {morph.layer = "a"}
  return
}
"""


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with visible(*expose(tmp_path_factory.mktemp("metadata"))):
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mlir"
    path.write_text(SOURCE)
    return path


def test_the_result_goes_to_the_standard_output(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(source), "-p", "test-rename-layer{layer=a to=b}"]) == 0
    out, err = capsys.readouterr()
    assert 'morph.layer = "b"' in out
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_the_standard_input(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SOURCE.encode())))
    assert main(arguments) == 0
    assert "affine.for" in capsys.readouterr().out


def test_the_polyhedral_view_of_several_parts_is_one_stream(source: Path, tmp_path: Path) -> None:
    source.write_text(SOURCE + "// -----\n" + SOURCE.replace('"a"', '"b"'))
    output = tmp_path / "out.yaml"
    assert main([str(source), "--split-input-file", "--polyhedral", "-o", str(output)]) == 0
    assert [line for line in output.read_text().splitlines() if line.startswith(("---", "nest"))] == [
        *("---", 'nest: "a"', "---", 'nest: "b"')
    ]


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--polyhedral-both"], 2, "there is nothing to compare; name a schedule or a pipeline"),
        (["--polyhedral", "--polyhedral-both", "-p", "cse"], 2, "it excludes --polyhedral, which prints"),
        (["--list-nests", "--polyhedral"], 2, "it excludes the polyhedral view"),
        (["--polyhedral", "-p", "lower-affine"], 1, "program: it has no `affine.for` nest to show; lower it to affine"),
    ],
)
def test_a_polyhedral_view_that_cannot_be_is_refused(
    source: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, message: str
) -> None:
    assert main([str(source), *options]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and message in err and err.count("\n") == 1


def test_output_is_a_fixed_point(source: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.mlir", tmp_path / "twice.mlir"
    assert main([str(source), "-o", str(once)]) == 0
    assert main([str(once), "-o", str(twice)]) == 0
    assert once.read_text() == twice.read_text()


def test_a_failure_leaves_the_output_file_alone(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mlir"
    output.write_text("before")
    assert main([str(source), "-p", "test-count-loops{limit=0}", "-o", str(output)]) == 1
    assert output.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mlir", "out.mlir"]


def test_the_output_file_has_ordinary_permissions(source: Path, tmp_path: Path) -> None:
    assert main([str(source), "-o", str(tmp_path / "out.mlir")]) == 0
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "out.mlir").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["{source}", "-p", "test-count-loops{{limit=0}}"],
            1,
            "error: {source}:2:3: affine.for: 1 loops, more than the",
        ),
        (["{source}.not"], 1, "error: cannot read '{source}.not': No such file or directory"),
        (["{folder}"], 1, "error: cannot read '{folder}': Is a directory"),
        (["{source}", "-o", "{folder}/no/out.mlir"], 1, "error: cannot write '{folder}/no/out.mlir': No such file"),
        (["{source}", "--transform", "{folder}/no.mlir"], 1, "error: cannot read '{folder}/no.mlir': No such file"),
        (["{source}", "--transform", "{source}"], 1, "{source}: it has no transform.named_sequence @__transform_main"),
        (["{source}", "-p", "csee"], 2, "error: argument 'pipeline': unknown pass 'csee'; did you mean 'cse'?"),
        (["{source}", "--no-such-flag"], 2, "error: No such option '--no-such-flag'."),
        (["{source}", "{source}"], 2, "error: Got unexpected extra argument"),
    ],
)
def test_failures(
    source: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    names = {"source": str(source), "folder": str(source.parent)}
    assert main([a.format(**names) for a in arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert message.format(**names) in err
    assert err.startswith("error: ")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"func.func @f() {\n  retur\n}", ":2:3: custom op 'retur' is unknown"),
        (b"func.func @f() {\n  return\xff\n}", ":2:9: not UTF-8 (byte 0xff)"),
        (b"func.func @f() -> i32 {\n  return\n}", ":2:3: 'func.return' op has 0 operands"),
        (b'"no.such"() : () -> ()', ":1:10: operation being parsed with an unregistered dialect"),
    ],
)
def test_malformed_input_is_told_with_its_place(
    source: Path, capsys: pytest.CaptureFixture[str], data: bytes, place: str
) -> None:
    source.write_bytes(data)
    assert main([str(source)]) == 1
    assert f"error: {source}{place}" in capsys.readouterr().err


def test_the_empty_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text("")
    assert main([str(source)]) == 0
    assert capsys.readouterr().out == "module {\n}\n"


def test_parts_keep_the_line_numbers_of_the_file(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text(f"{SOURCE}// -----\n{SOURCE}  // -----  \nfunc.func @g( {{")
    assert main([str(source), "--split-input-file"]) == 1
    out, err = capsys.readouterr()
    assert out.count("// -----") == 1
    assert err == f"error: {source}:15:14: expected non-function type\n"


def test_splitting_keeps_every_line_in_place() -> None:
    text = "a\n// -----\nb\nc\n// ----- not\n// -----\nd\n"
    lines = text.split("\n")
    for part in split("-", text):
        assert all(line in ("", lines[i]) for i, line in enumerate(part.text.split("\n")))


def test_locations_name_the_file() -> None:
    with ir.Context() as context:
        text = 'func.func @f() {\n  return loc(callsite("n"("-":7:8) at fused["-":1:2, "other":3:4]))\n}'
        module = parse(Part("dir/x.mlir", text), context)
        (function,) = module.body.operations
        assert str(function.operation.location) == 'loc("dir/x.mlir":1:1)'
        (terminator,) = function.operation.regions[0].blocks[0].operations
        expected = 'loc(callsite("n"("dir/x.mlir":7:8) at fused["dir/x.mlir":1:2, "other":3:4]))'
        assert str(terminator.operation.location) == expected


@pytest.mark.parametrize(
    ("comment", "problems"),
    [
        ("// expected-error@+1 {{1 loops}}", []),
        ("// expected-error@below {{1 loops}} expected-note@above {{x}}", ["expected note 'x' was not produced"]),
        ("// expected-error {{1 loops}}", ["unexpected error: ", "expected error '1 loops' was not produced"]),
        ("// expected-warning@+1 {{1 loops}}", ["unexpected error: ", "expected warning '1 loops' was not produced"]),
        ("// expected-error@+1 {{9 loops}}", ["unexpected error: ", "expected error '9 loops' was not produced"]),
        ("// nothing", ["unexpected error: "]),
    ],
)
def test_verify_diagnostics(
    source: Path, capsys: pytest.CaptureFixture[str], comment: str, problems: list[str]
) -> None:
    head, rest = SOURCE.split("\n", 1)
    source.write_text(f"{head}\n  {comment}\n{rest}")
    assert main([str(source), "-p", "test-count-loops{limit=0}", "--verify-diagnostics"]) == (1 if problems else 0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(problems)
    assert all(problem in line for problem, line in zip(problems, lines, strict=True))


def test_another_tool_overrides_the_hooks(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class OtherTool(OptTool):
        name = "other-opt"

        def set_up_context(self, context: ir.Context) -> None:
            super().set_up_context(context)
            context.allow_unregistered_dialects = True

    source.write_text('"no.such"() : () -> ()')
    assert OtherTool().main([str(source)]) == 0
    assert OtherTool().main(["--version"]) == 0
    out = capsys.readouterr().out
    assert '"no.such"' in out
    assert "other-opt " in out


def test_the_tool_does_not_import_torch() -> None:
    code = "import sys, loopmorph.tools.opt as o; o.main(['--list-passes']); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
