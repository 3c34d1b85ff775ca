"""`loopmorph-opt`: reads MLIR, runs a pass pipeline or a schedule on it, and prints the result.

Another project makes its own tool with its own dialects by overriding the hooks of `OptTool`:

    class MyOpt(OptTool):
        name = "my-opt"

        def set_up_context(self, context):
            super().set_up_context(context)
            MyDialect.load()

    main = MyOpt().main
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch_mlir import ir
from torch_mlir._mlir_libs import _torchMlir as torch_dialect  # `dialects.torch` also builds a thousand classes
from torch_mlir.passmanager import PassManager

import loopmorph
from loopmorph.dialects import morph
from loopmorph.passes.analysis.polyhedral.columns import COLUMN, side_by_side
from loopmorph.passes.analysis.polyhedral.text import Document, polyhedral_documents, polyhedral_text
from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError, DataError, IllegalTransform, LoopmorphError
from loopmorph.passes.pipeline import Pipeline, parse_pipeline, run_pipeline
from loopmorph.passes.registry import all_passes
from loopmorph.passes.text.pipeline_options import describe_options
from loopmorph.pipelines.schedules import fill, find_schedule, read_schedule, schedules
from loopmorph.pipelines.support.files import replace_file
from loopmorph.tools.opt_diagnostics import Report, compare, from_diagnostic, from_error
from loopmorph.tools.opt_input import STDIN, Part, parse, read_text, split
from loopmorph.tools.opt_nests import nest_table

SEPARATOR = "// -----\n"


@dataclass(frozen=True)
class OptOptions:
    """The command line, read: `schedule` is the text of the file called `transform`."""

    file: str = STDIN
    pipeline: Pipeline | None = None
    transform: str | None = None
    schedule: str | None = None
    output: str = STDIN
    split_input_file: bool = False
    verify_diagnostics: bool = False
    mlir_print_ir_after_all: bool = False
    mlir_print_ir_after_change: bool = False
    mlir_timing: bool = False
    mlir_print_debuginfo: bool = False
    allow_unregistered_dialect: bool = False
    explain: bool = False
    polyhedral: bool = False
    polyhedral_both: bool = False
    list_nests: bool = False


class OptTool:
    """An `mlir-opt` in Python; override the hooks to make another one."""

    name = "loopmorph-opt"

    def version(self) -> str:
        """Hook: what `--version` prints."""
        return f"{self.name} {loopmorph.__version__} (torch-mlir {importlib.metadata.version('torch-mlir')})"

    def passes(self) -> Mapping[str, type[Pass]]:
        """Hook: what `--list-passes` lists."""
        return all_passes()

    def set_up_context(self, context: ir.Context) -> None:
        """Hook: loads dialects; called, with `context` current, for every part of the input."""
        torch_dialect.register_dialect(context)
        morph.load(context)

    def transform(self, module: ir.Module, options: OptOptions) -> None:
        """Hook: changes the module; the schedule comes before the pipeline."""
        if options.schedule is not None:
            self._apply_schedule(module, options)
        if options.pipeline is not None:
            run_pipeline(module, options.pipeline, lambda manager: self._configure(manager, options))

    def main(self, args: Sequence[str] | None = None) -> int:
        """Runs the tool; returns 0, 1 where the input or a pass failed, or 2 for a wrong command line."""
        try:
            status = make_command(self).main(args, prog_name=self.name, standalone_mode=False)
        except click.ClickException as error:
            fail(f"{error.format_message()} (see {self.name} --help)")
            return error.exit_code
        except click.Abort:
            return 1
        return int(status or 0)

    def run(self, options: OptOptions) -> int:
        """Processes the input as the options say; returns the exit status."""
        try:
            text = read_text(options.file)
            parts = split(options.file, text) if options.split_input_file else [Part(options.file, text)]
            results = [self._process(part, options) for part in parts]
            good = not any(problems for _, problems in results)
            separator = "" if options.polyhedral or options.polyhedral_both else SEPARATOR
            output = separator.join(printed for printed, _ in results if printed is not None)
            if good or options.output == STDIN:
                write_text(options.output, output)
        except LoopmorphError as error:
            fail(str(error))
            return 1
        return 0 if good else 1

    def _process(self, part: Part, options: OptOptions) -> tuple[str | None, list[Report]]:
        """The text of the part's result, None where it failed, and the errors, which have been shown."""
        reports: list[Report] = []
        printed, explanation = None, ""
        with ir.Context() as context, ir.Location.unknown():
            context.allow_unregistered_dialects = options.allow_unregistered_dialect
            if options.mlir_print_ir_after_all or options.mlir_print_ir_after_change:
                context.enable_multithreading(False)  # MLIR ends the process otherwise
            handler = context.attach_diagnostic_handler(lambda d: _collect(reports, d, part.source))
            try:
                self.set_up_context(context)
                module = parse(part, context)
                before = polyhedral_documents(module.operation, COLUMN) if options.polyhedral_both else []
                self.transform(module, options)
                printed = _result(module, before, options)
            except (LoopmorphError, ir.MLIRError) as error:
                reports += from_error(error, part.source)
                if options.explain and isinstance(error, IllegalTransform) and error.explain is not None:
                    explanation = error.explain()
            finally:
                handler.detach()
        if options.verify_diagnostics:
            reports = compare(part, reports)
        for report in reports:
            if report.severity != "note":
                click.echo(str(report), err=True)
        if explanation:
            click.echo(explanation, err=True)
        return printed, [report for report in reports if report.severity == "error"]

    def _configure(self, manager: PassManager, options: OptOptions) -> None:
        if options.mlir_print_ir_after_all or options.mlir_print_ir_after_change:
            manager.enable_ir_printing(
                print_after_all=True,
                print_after_change=not options.mlir_print_ir_after_all,
                enable_debug_info=options.mlir_print_debuginfo,
            )
        if options.mlir_timing:
            manager.enable_timing()

    def _apply_schedule(self, module: ir.Module, options: OptOptions) -> None:
        try:
            morph.apply_schedule(module, options.schedule or "")
        except ArgumentError as error:
            if error.argument != "schedule":
                raise
            raise ArgumentError("--transform", f"{options.transform}: {error.message}") from error


def make_command(tool: OptTool) -> click.Command:
    """The command line of a tool; the command returns the exit status."""

    @click.command(tool.name, context_settings={"help_option_names": ["-h", "--help"]})
    @click.argument("file", default=STDIN)
    @click.option(
        "-p", "--pass-pipeline", metavar="PIPELINE", help="Passes to run, e.g. 'canonicalize,func.func(cse)'."
    )
    @click.option(
        "--transform",
        metavar="SCHEDULE",
        help="Schedule to apply, a file or one of --list-schedules; it comes before the pipeline.",
    )
    @click.option(
        "--set", "values", multiple=True, metavar="NAME=VALUE,...", help="Parameters of the schedule: 'layer=a,g=4'."
    )
    @click.option("-o", "--output", default=STDIN, metavar="FILE", help="Where the result goes (-: standard output).")
    @click.option("--split-input-file", is_flag=True, help="Treat the parts between '// -----' as separate inputs.")
    @click.option(
        "--verify-diagnostics", is_flag=True, help="Compare diagnostics with 'expected-error {{...}}' comments."
    )
    @click.option("--mlir-print-ir-after-all", is_flag=True, help="Print the IR after each pass.")
    @click.option("--mlir-print-ir-after-change", is_flag=True, help="Print the IR after each pass that changed it.")
    @click.option("--mlir-timing", is_flag=True, help="Print how long each pass took.")
    @click.option("--mlir-print-debuginfo", is_flag=True, help="Print locations.")
    @click.option("--allow-unregistered-dialect", is_flag=True, help="Accept operations of unknown dialects.")
    @click.option("--explain", is_flag=True, help="Show the nest that a refusal is about, the culprit lines marked.")
    @click.option(
        "--polyhedral", is_flag=True, help="Print the nests as sets, relations and schedule trees that isl reads."
    )
    @click.option(
        "--polyhedral-both", is_flag=True, help="The same, before and after schedule and pipeline side by side."
    )
    @click.option(
        "--list-nests",
        is_flag=True,
        help="Print a table of the loop nests, which linalg becomes first, in place of the IR.",
    )
    @click.option("--list-passes", is_flag=True, help="List loopmorph's passes and those of plug-ins, and leave.")
    @click.option(
        "--list-schedules", is_flag=True, help="List the schedules that come with loopmorph or plug-ins, and leave."
    )
    @click.option("--version", is_flag=True, help="Print the version, and leave.")
    def command(
        pass_pipeline: str | None,
        transform: str | None,
        values: tuple[str, ...],
        list_passes: bool,
        list_schedules: bool,
        version: bool,
        **flags: Any,
    ) -> int:
        """Read MLIR from FILE (- or nothing: the standard input), change it, and print it.

        Diagnostics go to the standard error. The exit status is 0, or 1 when the input or a pass fails, or 2 when
        the command line is wrong.
        """
        if version:
            click.echo(tool.version())
            return 0
        try:
            if list_passes:
                click.echo("\n".join(map(describe, tool.passes().values())))
                return 0
            if list_schedules:
                click.echo("\n".join(map(str, schedules().values())))
                return 0
            if values and transform is None:
                raise ArgumentError("--set", "there is no schedule to set parameters of; name one with --transform")
            require_one_form(
                flags["list_nests"], flags["polyhedral"], flags["polyhedral_both"], transform or pass_pipeline
            )
            parameters = read_values(values)
            pipeline = None if pass_pipeline is None else parse_pipeline(pass_pipeline)
        except LoopmorphError as error:
            fail(str(error))
            return 2
        try:
            schedule = None if transform is None else schedule_text(transform, parameters)
        except LoopmorphError as error:
            fail(str(error))
            return 2 if isinstance(error, ArgumentError) else 1
        return tool.run(OptOptions(pipeline=pipeline, transform=transform, schedule=schedule, **flags))

    return command


def require_one_form(nests: bool, polyhedral: bool, both: bool, change: str | None) -> None:
    """Makes sure that the result is asked for in one form, and that there is something to compare.

    Raises:
        ArgumentError: it is not.
    """
    if nests and (polyhedral or both):
        raise ArgumentError("--list-nests", "it excludes the polyhedral view: each is printed in place of the program")
    if both and polyhedral:
        raise ArgumentError("--polyhedral-both", "it excludes --polyhedral, which prints the program after alone")
    if both and change is None:
        raise ArgumentError("--polyhedral-both", "there is nothing to compare; name a schedule or a pipeline")


def read_values(texts: Sequence[str]) -> dict[str, str]:
    """What `--set` gives: `layer=a,u=16` is {"layer": "a", "u": "16"}.

    Raises:
        ArgumentError: a part is no NAME=VALUE, or a name is given twice.
    """
    found: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, separator, value = part.partition("=")
        if not separator or not name.strip():
            raise ArgumentError("--set", f"expected NAME=VALUE,..., got '{part}'")
        if name.strip() in found:
            raise ArgumentError("--set", f"'{name.strip()}' is given twice")
        found[name.strip()] = value.strip()
    return found


def schedule_text(name: str, values: Mapping[str, str]) -> str:
    """The text of a schedule: of a file, or, for a plain name that no file has, of one that comes with loopmorph.

    Raises:
        DataError: the file cannot be read.
        ArgumentError: no such schedule, or a parameter is unknown, missing or of another type.
    """
    plain = not Path(name).suffix and Path(name).name == name and name != STDIN
    if plain and not Path(name).exists():
        return fill(find_schedule(name), values)
    return fill(read_schedule(name, read_text(name)), values)


def describe(cls: type[Pass]) -> str:
    """A pass for the listing: its name, the first line of its docstring, and one line for each option."""
    summary = (cls.__doc__ or "").strip().partition("\n")[0]
    lines = [f"{cls.name}", f"    {summary}"]
    for option in describe_options(cls):
        need = "required" if option.default is None else f"default {option.default or 'empty'}"
        lines.append(f"    {option.key}=<{option.type_text}>  {need}")
    return "\n".join(lines)


def write_text(path: str, text: str) -> None:
    """Writes a whole file or nothing; `-` is the standard output.

    Raises:
        DataError: the file cannot be written.
    """
    if path == STDIN:
        click.echo(text, nl=False)
        return
    try:
        replace_file(Path(path), lambda file: file.write(text.encode()))
    except OSError as error:
        raise DataError(f"cannot write '{path}': {error.strerror}") from error


def fail(message: str) -> None:
    """Shows an error."""
    click.echo(f"error: {message}", err=True)


def _result(module: ir.Module, before: Sequence[Document], options: OptOptions) -> str:
    """What is printed of a module: its text, the table of its nests, or the polyhedral view, beside the one `before` if
    both are asked for.
    """
    if options.list_nests:
        return nest_table(module)
    if options.polyhedral_both:
        return side_by_side(before, polyhedral_documents(module.operation, COLUMN))
    if options.polyhedral:
        return polyhedral_text(module.operation)
    return module.operation.get_asm(enable_debug_info=options.mlir_print_debuginfo).rstrip("\n") + "\n"


def _collect(reports: list[Report], diagnostic: ir.Diagnostic, source: str) -> bool:
    reports += from_diagnostic(diagnostic, source)
    return True


def main(args: Sequence[str] | None = None) -> int:
    """The command `loopmorph-opt`."""
    return OptTool().main(args)


if __name__ == "__main__":
    sys.exit(main())
