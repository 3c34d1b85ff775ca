"""Where `export` writes, and what it refuses: nothing of anybody else is lost, and each refusal is one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tagged import tagged

import loopmorph as lm
from loopmorph.pipelines.codegen.export.dependencies import dependency_text


def test_nothing_of_anybody_else_is_lost(tagged_program: lm.Program, tmp_path: Path) -> None:
    theirs = {"notes.txt": "mine", "tagged.txt": "mine", "other.h": "mine"}
    for name, text in theirs.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "tagged.c").write_text("int mine;")

    def again(format: str) -> set[str]:
        lm.export(tagged_program, out=tmp_path, name="tagged", format=format, check=False)  # type: ignore[arg-type]
        return {path.name for path in tmp_path.iterdir()} - set(theirs)

    with pytest.raises(lm.ArgumentError, match=r"'out': '.*tagged\.c' is there and is not of an export: move it, or"):
        again("object")
    assert (tmp_path / "tagged.c").read_text() == "int mine;" and not (tmp_path / "tagged.h").exists()
    (tmp_path / "tagged.c").unlink()
    common = {"tagged.h", "tagged.d", "tagged.safetensors"}
    assert again("object") == {*common, "tagged.c", "tagged_code.o"}
    assert again("llvm-ir") == {*common, "tagged.c", "tagged_code.ll"}
    (tmp_path / "tagged.c").write_text("int mine;")
    assert again("library") == {*common, "tagged.c", "libtagged.so", "libtagged.a", "taggedConfig.cmake"}
    assert {name: (tmp_path / name).read_text() for name in theirs} == theirs
    assert (tmp_path / "tagged.c").read_text() == "int mine;"


REFUSED = [
    (["resnet8_digits", "-o", "file/out"], r"'out': cannot write to 'file/out': Not a directory"),
    (["resnet8_digits", "-o", "file"], r"'out': cannot write to 'file': it is a file, not a folder"),
    (["resnet8_digits", "-o", "out", "--target", "zen44"], r"'target': no processor 'zen44' is known; did you mean"),
    (
        ["resnet8_digits", "-o", "out", "--target", "neoverse_v1"],
        r"'format': code for aarch64 is exported from .* only",
    ),
    (["resnet8_digits", "-o", "out", "--name", "a-b"], r"'name': expected a C identifier: .*; got 'a-b'"),
    (["resnet8_digits", "-o", "out", "--threads", "5000"], r"'threads': expected at most 1024, got 5000"),
    (
        ["resnet8_digits", "-o", "out", "--original", "vgg11"],
        r"'original': 'resnet8_digits' is no model\.pt, which alone",
    ),
    (["resnet88", "-o", "out"], r"'model': 'resnet88' is not known; did you mean"),
    (["none.pt", "-o", "out"], r"none\.pt: no such file"),
    (["factories:refuses_export", "-o", "out"], r"factories\.py:\d+\): Could not guard on data-dependent expression"),
]


@pytest.mark.parametrize(("words", "reason"), REFUSED, ids=lambda value: value[-1] if isinstance(value, list) else "")
def test_refused_in_one_line(refused: Callable[[Sequence[str]], str], words: list[str], reason: str) -> None:
    Path("file").write_text("mine")
    assert re.search(reason, refused(["export", *words]))
    assert Path("file").read_text() == "mine" and not any(Path().glob("out/*"))


def test_no_compiler(refused: Callable[[Sequence[str]], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    words = ["export", "resnet8_digits", "-o", "out"]
    assert "a library needs a C compiler (cc, gcc, clang), and none is found; the format 'object'" in refused(words)


def test_a_compiler_that_is_not_there(
    tagged_program: lm.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-cc -O1")
    with pytest.raises(lm.CompilationFailed, match=r"\$CC names 'no-such-cc', and there is no such command"):
        lm.export(tagged_program, out=tmp_path, check=False)
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_do_not_go_together(tmp_path: Path) -> None:
    model, inputs = tagged()
    with pytest.raises(lm.ArgumentError, match="'example_inputs': 'vgg11' has its example inputs already"):
        lm.export("vgg11", inputs, out=tmp_path)
    with pytest.raises(lm.ArgumentError, match=r"'original': what is in memory is no model\.pt, which alone is made"):
        lm.export(model, inputs, out=tmp_path, original="vgg11")
    with pytest.raises(lm.ArgumentError, match=r"'tune': code for neoverse_v1 cannot be measured .*it is for aarch64"):
        lm.export(model, inputs, out=tmp_path, target="neoverse_v1", format="llvm-ir", tune=1.0)
    with pytest.raises(lm.ArgumentError, match=r"'example_inputs': needed to compile an nn\.Module"):
        lm.export(model, out=tmp_path)


def test_a_list_of_what_it_was_made_from() -> None:
    text = dependency_text(Path("/a b/x.h"), [Path("/c$d/#.py"), Path("/e.py"), Path("/c$d/#.py")])
    assert text == "/a\\ b/x.h: \\\n  /c$$d/\\#.py \\\n  /e.py\n"


@pytest.mark.parametrize("argument", ["format", "weights"])
def test_choices(tagged_program: lm.Program, tmp_path: Path, argument: str) -> None:
    with pytest.raises(lm.ArgumentError, match=f"'{argument}': expected one of .*; got 'elf'"):
        lm.export(tagged_program, out=tmp_path, **{argument: "elf"})  # type: ignore[arg-type]
