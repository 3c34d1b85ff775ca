"""README.md says what is there: its passes, commands, schedules and Python are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import torch
from torch_mlir import ir

import loopmorph as lm
from loopmorph.dialects.morph import parse_schedule
from loopmorph.passes.base import Pass
from loopmorph.passes.pipeline import parse_pipeline
from loopmorph.passes.registry import OWN_PACKAGES, all_passes
from loopmorph.passes.transformation import Transformation
from loopmorph.pipelines.codegen import dynamo
from loopmorph.pipelines.zoo import ZOO
from loopmorph.tools.cli import cli
from loopmorph.tools.opt import OptTool, make_command

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
MLIR = re.findall(r"```mlir\n(.*?)```", README, re.DOTALL)


def own_passes() -> dict[str, type[Pass]]:
    """The passes of loopmorph, without those of plug-ins that happen to be installed."""
    return {name: cls for name, cls in all_passes().items() if cls.__module__.startswith(OWN_PACKAGES)}


def sections() -> dict[str, str]:
    """The tables of the chapter on passes by the folder that their introduction stands for."""
    chapter = README.partition("## The passes")[2].partition("\n## ")[0]
    introductions = {"neural": "Network-changing;", "loop": "Loop transformations;", "lowering": "Lowering;"}
    places = {folder: chapter.index(text) for folder, text in introductions.items()}
    ends = [*sorted(places.values())[1:], len(chapter)]
    return {folder: chapter[start:end] for (folder, start), end in zip(places.items(), ends, strict=True)}


def in_table(text: str) -> dict[str, set[str]]:
    """Pass -> options, as the rows of a table say."""
    rows = re.findall(r"^\| `(morph-[a-z-]+)` \| ([^|]*) \|", text, re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", options)) for name, options in rows}


@pytest.mark.parametrize("folder", ["neural", "loop", "lowering"])
def test_each_pass_is_named_with_its_options(folder: str) -> None:
    here = {n: cls for n, cls in own_passes().items() if _folder(cls) == folder}
    assert in_table(sections()[folder]) == {name: set(cls.option_types()) for name, cls in here.items()}


def _folder(cls: type[Pass]) -> str:
    """What kind of pass it is; a pass of the loop folder that is no transformation prepares the lowering."""
    return cls.kind if issubclass(cls, Transformation) else "lowering"


def test_no_pass_is_named_that_does_not_exist() -> None:
    assert set(re.findall(r"(?<![a-z])morph-[a-z]+(?:-[a-z]+)*(?=[`{])", README)) <= set(all_passes())


def test_the_pipeline_parses() -> None:
    (pipeline,) = re.findall(r"loopmorph-opt -p '(.*)'", README)
    assert [name for name in ("morph-group", "morph-split", "canonicalize") if name in str(parse_pipeline(pipeline))]


def test_the_schedule_parses() -> None:
    (schedule,) = [text for text in MLIR if "transform.named_sequence" in text]
    with ir.Context() as context, ir.Location.unknown():
        assert "morph.bottleneck" in str(parse_schedule(schedule, context))


def test_public_names_exist() -> None:
    assert set(re.findall(r"\blm\.(\w+)", README)) <= set(lm.__all__)


def usage() -> list[list[str]]:
    """The words of each line that says how a command is called."""
    chapter = README.partition("\n## Command line\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (loopmorph.*)$", chapter, re.MULTILINE)
    return [shlex.split(line.replace("[", " ").replace("]", " ")) for line in lines]


def commands_of(words: list[str]) -> list[click.Command]:
    """What a line calls: one command, or some of a group ("study show|best|export")."""
    command = make_command(OptTool()) if words[0] == "loopmorph-opt" else cli.commands[words[1]]
    return [command.commands[each] for each in words[2].split("|")] if isinstance(command, click.Group) else [command]


def test_each_command_stands_there() -> None:
    groups = [
        each.commands if isinstance(each, click.Group) else {str(each.name): each} for each in cli.commands.values()
    ]
    called = {command for words in usage() if words[0] == "loopmorph" for command in commands_of(words)}
    assert called == {command for group in groups for command in group.values()}
    assert {words[0] for words in usage()} == {"loopmorph", "loopmorph-opt"}


@pytest.mark.parametrize("words", usage(), ids=lambda words: " ".join(words[:2]))
def test_each_option_exists(words: list[str]) -> None:
    parameters = [each for command in commands_of(words) for each in command.params]
    known = {name for each in parameters for name in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("-") and word != "-"} <= known


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = PYTHON
    if "loopmorph" not in torch._dynamo.list_backends(exclude_tags=()):  # as its entry point does where it is installed
        torch._dynamo.register_backend(dynamo.loopmorph, name="loopmorph")
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    assert "'conv1.weight': (8, 3, 3, 3)" in capsys.readouterr().out


def test_the_transcript_is_of_the_demo_that_make_runs() -> None:
    (recipe,) = re.findall(r"^demo:.*\n\t\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (transcript,) = re.findall(r"```text\n\$ make demo\n(.*?)```", README, re.DOTALL)
    assert transcript.startswith(f".venv/bin/{recipe.replace('$(OUT)', 'out/demo')}\n")
    assert "accuracy on" in transcript and shlex.split(recipe)[1] in cli.commands


def test_networks_that_it_names_are_in_the_zoo() -> None:
    assert set(re.findall(r"loopmorph (?:import|optimize|calibrate|bench) ([a-z]\w*)", README)) <= set(ZOO)
