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
from loopmorph.pipelines.codegen.export.entry_points import MARK, CodeNames, add_bf16_conversion, add_entry_points
from loopmorph.pipelines.codegen.export.folder import Format
from loopmorph.pipelines.codegen.export.llvm_text import portable_text
from loopmorph.pipelines.codegen.export.ports import Ports, ports_of
from loopmorph.pipelines.codegen.export.sources import ExportTexts
from loopmorph.pipelines.codegen.export.toolchain import find_toolchain
from loopmorph.pipelines.codegen.export.weights_file import lay_out
from loopmorph.pipelines.codegen.jit import Jitted
from loopmorph.pipelines.codegen.library import Library, LibraryError, link
from loopmorph.pipelines.codegen.lowered import Interface, lower
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
        target: the processor.
        threads: number of threads that each call uses.
        format: what is made of the code.
        embedded: whether the weights are put into the code.
        check: whether the code is compared with PyTorch.
    """

    network: Network
    name: str
    target: Target
    threads: int
    format: Format
    embedded: bool
    check: bool


def require_possible(target: Target, threads: int, format: Format) -> None:
    """Looks, before any long work, at what does not depend on the network.

    Raises:
        ArgumentError: a number of threads that is too large, or a target of which nothing in this format can be made.
        CompilationFailed: there is no C compiler that makes a library.
    """
    check_count("threads", threads)
    if threads > MOST_THREADS:
        raise ArgumentError("threads", f"expected at most {MOST_THREADS}, got {threads}")
    here = native_target().arch
    if target.arch != here and format != "llvm-ir":
        only = f"code for {target.arch} is exported from {here} as 'llvm-ir' only, which clang and llc compile"
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
    network, name, names = wanted.network, wanted.name, CodeNames(wanted.name)
    ports, parameters = ports_of(network), network.parameters
    with stage(progress, "lower"):
        lowered = lower(copy_module(network.module), wanted.target, wanted.threads)
    interface = lowered.interface
    layout = lay_out((*interface.prepare, *interface.run), MARK)
    weights = layout.content(parameters)
    add_entry_points(lowered, names, wanted.target, weights if wanted.embedded else None)
    if "bf16" in str(network.module) and not converts_bf16(wanted.target):
        add_bf16_conversion(lowered, wanted.target)
    texts = ExportTexts(name, ports, interface, layout, wanted.target, wanted.embedded)
    ir_text = ""
    if wanted.format == "llvm-ir":
        ir_text = portable_text(llvm.translate_module_to_llvmir(lowered.module.operation))
    code = b""
    if wanted.target.arch == native_target().arch and (wanted.check or not ir_text):
        with stage(progress, "compile"):
            machine_code = Jitted(lowered)
            machine_code.address_of(names.run)  # has LLVM generate it
            code = machine_code.object_file()
    if wanted.check:
        with stage(progress, "compare"):
            _compare(wanted, interface, code, names)
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


def _compare(wanted: Wanted, interface: Interface, code: bytes, names: CodeNames) -> None:
    """Compares the code that is exported, and no other, with PyTorch.

    Raises:
        WrongResult: they differ.
    """
    reason = why_not_here(wanted.target)
    try:
        check_threads(wanted.threads)
    except ArgumentError as error:
        reason = reason or error.message
    if reason is None:
        try:
            native = native_code(Library(link(code), names.prefix), interface)
        except LibraryError as error:
            reason = str(error)
        else:
            executable = Executable(wanted.network, wanted.threads, wanted.target, native=native)
            check_executable(executable)
            return
    text = f"loopmorph: the exported code is not compared with PyTorch, since it cannot run on this computer: {reason}"
    warnings.warn(text, UncheckedWarning, stacklevel=4)
