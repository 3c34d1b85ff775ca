"""An export made: the code compiled and compared, the files that it consists of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch_mlir.dialects import llvm

from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.target.detect import native_target
from loopmorph.passes.target.instructions import converts_bf16, why_not_here
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen.check import UncheckedWarning, check_executable
from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.codegen.export.entry_points import (
    MARK,
    CodeNames,
    add_bf16_conversion,
    add_constants,
    add_entry_points,
)
from loopmorph.pipelines.codegen.export.folder import Format
from loopmorph.pipelines.codegen.export.llvm_text import portable_text
from loopmorph.pipelines.codegen.export.ports import Ports, ports_of
from loopmorph.pipelines.codegen.export.sources import ExportTexts, Variant
from loopmorph.pipelines.codegen.export.targets import joined
from loopmorph.pipelines.codegen.export.toolchain import find_toolchain
from loopmorph.pipelines.codegen.export.weights_file import lay_out
from loopmorph.pipelines.codegen.jit import Jitted
from loopmorph.pipelines.codegen.library import Library, LibraryError, link
from loopmorph.pipelines.codegen.lowered import lower
from loopmorph.pipelines.codegen.native import native_code
from loopmorph.pipelines.codegen.threads import check_threads
from loopmorph.pipelines.network import Network, copy_module
from loopmorph.pipelines.support.numbers import check_count
from loopmorph.pipelines.support.progress import Progress, silent, stage

MOST_THREADS = 1024


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, and how.

    Attributes:
        network: the network.
        name: its name, a C identifier.
        targets: the processors, the best first (see `read_targets`).
        threads: number of threads that each call uses.
        format: what is made of the code.
        embedded: whether the weights are put into the code.
        check: whether the code is compared with PyTorch.
    """

    network: Network
    name: str
    targets: tuple[Target, ...]
    threads: int
    format: Format
    embedded: bool
    check: bool

    @property
    def variants(self) -> list[tuple[Target, CodeNames]]:
        """Each target, and how its code is called."""
        several = len(self.targets) > 1
        return [(each, CodeNames(self.name, k if several else None)) for k, each in enumerate(self.targets)]


def require_possible(targets: tuple[Target, ...], threads: int, format: Format) -> None:
    """Looks, before any long work, at what does not depend on the network.

    Raises:
        ArgumentError: a number of threads that is too large, or a target of which nothing in this format can be made.
        CompilationFailed: there is no C compiler that makes a library.
    """
    check_count("threads", threads)
    if threads > MOST_THREADS:
        raise ArgumentError("threads", f"expected at most {MOST_THREADS}, got {threads}")
    here = native_target().arch
    arch = targets[0].arch
    if arch != here and format != "llvm-ir":
        only = f"code for {arch} is exported from {here} as 'llvm-ir' only, which clang and llc compile"
        raise ArgumentError("format", f"{only}; got '{format}'")
    if format == "library":
        find_toolchain()


def make_export(wanted: Wanted, progress: Progress = silent) -> tuple[Ports, dict[str, bytes]]:
    """Compiles a network and compares it with PyTorch.

    Args:
        wanted: the network, and how.
        progress: called with "lower", "compile", "compare" and "link", 0 or 1, and 1, as each begins and ends.

    Returns:
        The network's inputs and outputs, and name -> content of each file, but for that of the dependencies.

    Raises:
        ArgumentError: an input or output of a type that C has not.
        CompilationFailed: an operation that cannot be lowered; LLVM, the compiler or the linker refuses.
        WrongResult: the code computes something else than PyTorch.
    """
    network, name = wanted.network, wanted.name
    ports, arch = ports_of(network), wanted.targets[0].arch
    with stage(progress, "lower"):
        parts = [lower(copy_module(network.module), target, wanted.threads) for target in wanted.targets]
    interfaces = [each.interface for each in parts]
    layout = lay_out([a for each in interfaces for a in (*each.prepare, *each.run)], MARK)
    weights = layout.content(network.parameters)
    for lowered, (target, names) in zip(parts, wanted.variants, strict=True):
        add_entry_points(lowered, names, target)
    whole = joined([(lowered, names) for lowered, (_, names) in zip(parts, wanted.variants, strict=True)])
    add_constants(whole, wanted.variants[0][1], weights if wanted.embedded else None)
    if "bf16" in str(network.module) and not all(converts_bf16(each) for each in wanted.targets):
        add_bf16_conversion(whole, arch)
    variants = tuple(Variant(t, n, i) for (t, n), i in zip(wanted.variants, interfaces, strict=True))
    texts = ExportTexts(name, ports, variants, layout, wanted.embedded)
    ir_text = ""
    if wanted.format == "llvm-ir":
        ir_text = portable_text(llvm.translate_module_to_llvmir(whole.module.operation))
    code = b""
    if arch == native_target().arch and (wanted.check or not ir_text):
        with stage(progress, "compile"):
            machine_code = Jitted(whole)
            machine_code.address_of(wanted.variants[0][1].run)  # has LLVM generate it
            code = machine_code.object_file()
    if wanted.check:
        with stage(progress, "compare"):
            for each in variants:
                _compare(wanted, each, code)
    files = {f"{name}.h": texts.header.encode()}
    if not wanted.embedded:
        files[f"{name}.safetensors"] = weights
    if wanted.format == "library":
        with stage(progress, "link"):
            made = find_toolchain().libraries(name, texts.header, texts.glue, texts.link_map, code)
        files |= {f"lib{name}.so": made.shared, f"lib{name}.a": made.static}
        return ports, {**files, f"{name}Config.cmake": texts.cmake.encode()}
    files[f"{name}.c"] = texts.glue.encode()
    content = {f"{name}_code.ll": ir_text.encode()} if ir_text else {f"{name}_code.o": code}
    return ports, {**files, **content}


def _compare(wanted: Wanted, variant: Variant, code: bytes) -> None:
    """Compares the code that is exported, and no other, with PyTorch.

    Raises:
        WrongResult: they differ.
    """
    reason = why_not_here(variant.target)
    try:
        check_threads(wanted.threads)
    except ArgumentError as error:
        reason = reason or error.message
    if reason is None:
        try:
            native = native_code(Library(link(code), variant.names.prefix), variant.interface)
        except LibraryError as error:
            reason = str(error)
        else:
            executable = Executable(wanted.network, wanted.threads, variant.target, native=native)
            check_executable(executable)
            return
    which = f" for {variant.target}" if len(wanted.targets) > 1 else ""
    why = f"is not compared with PyTorch, since it cannot run on this computer: {reason}"
    warnings.warn(f"loopmorph: the exported code{which} {why}", UncheckedWarning, stacklevel=4)
