"""The C compiler and the archiver, which make libraries of object code and the C file that goes with it."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loopmorph.passes.errors import CompilationFailed
from loopmorph.pipelines.codegen.library import LibraryError, run_tool

COMPILERS = ("cc", "gcc", "clang")
ARCHIVERS = ("ar", "llvm-ar")
_COMPILE = ("-std=gnu11", "-O2", "-fPIC", "-pthread", "-c")


@dataclass(frozen=True)
class Libraries:
    """A shared and a static library, as bytes."""

    shared: bytes
    static: bytes


@dataclass(frozen=True)
class Toolchain:
    """What makes libraries.

    Attributes:
        compiler: the words that call a C compiler.
        archiver: the path of an archiver.
    """

    compiler: tuple[str, ...]
    archiver: str

    def libraries(self, name: str, header: str, glue: str, link_map: str, code: bytes) -> Libraries:
        """The libraries of a network.

        Args:
            name: the network's.
            header, glue: the C texts.
            link_map: a version script with what the shared library shows.
            code: an object file.

        Raises:
            CompilationFailed: the compiler, the linker or the archiver refuses, or does not run.
        """
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            (at / f"{name}.h").write_text(header)
            (at / f"{name}.c").write_text(glue)
            (at / "link.map").write_text(link_map)
            (at / f"{name}_code.o").write_bytes(code)
            objects = [str(at / f"{name}.o"), str(at / f"{name}_code.o")]
            shared, static = at / f"lib{name}.so", at / f"lib{name}.a"
            options = [
                "-shared",
                f"-Wl,-soname,{shared.name}",
                f"-Wl,--version-script={at / 'link.map'}",
                "-Wl,-z,defs",
            ]
            try:
                run_tool([*self.compiler, *_COMPILE, str(at / f"{name}.c"), "-o", objects[0]])
                run_tool([*self.compiler, *options, "-o", str(shared), *objects, "-pthread", "-lm"])
                run_tool([self.archiver, "rcs", str(static), *objects])
            except LibraryError as error:
                raise CompilationFailed(f"the libraries cannot be made: {error}") from error
            return Libraries(shared.read_bytes(), static.read_bytes())


def find_toolchain() -> Toolchain:
    """This computer's tools: the compiler that `$CC` names, or else one of `COMPILERS`.

    Raises:
        CompilationFailed: it has none.
    """
    try:
        named = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise CompilationFailed(f"$CC is no command: {error}") from error
    if named and shutil.which(named[0]) is None:
        raise CompilationFailed(f"$CC names '{named[0]}', and there is no such command")
    compiler = named or [path for each in COMPILERS if (path := shutil.which(each)) is not None][:1]
    archiver = next((path for each in ARCHIVERS if (path := shutil.which(each)) is not None), None)
    if not compiler or archiver is None:
        missing = f"C compiler ({', '.join(COMPILERS)})" if not compiler else f"archiver ({', '.join(ARCHIVERS)})"
        raise CompilationFailed(f"a library needs a {missing}, and none is found; the format 'object' needs none")
    return Toolchain(tuple(compiler), archiver)
