"""The texts of an export: the C header, the C file between it and the compiled code, the CMake package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loopmorph import __version__
from loopmorph.passes import marks
from loopmorph.passes.spmd import runtime
from loopmorph.passes.target.instructions import Feature, required_features
from loopmorph.passes.target.target import Target
from loopmorph.pipelines.codegen import threads
from loopmorph.pipelines.codegen.export.dependencies import TEMPLATES
from loopmorph.pipelines.codegen.export.entry_points import MARK, CodeNames
from loopmorph.pipelines.codegen.export.ports import Ports
from loopmorph.pipelines.codegen.export.weights_file import WeightsLayout
from loopmorph.pipelines.codegen.lowered import Interface
from loopmorph.pipelines.codegen.memory import HUGE_PAGE
from loopmorph.pipelines.codegen.signature import Argument

TARGET_VARIABLE = "LOOPMORPH_TARGET"  # of the environment: which of several targets a library is to choose
_VERSION = 2  # of how header and library go together; another one where either changes
FUNCTIONS = ("prepare", "run", "free", "message", "target")  # what a library shows, after the network's name
_ROLES = {"input": "INPUT", "output": "OUTPUT", "param": "WEIGHTS", "packed": "PACKED", "scratch": "SCRATCH"}
_STATUSES = {
    "OK": "no error",
    "BAD_ARGUMENT": "an argument is null that must not be, or one is given that must be null",
    "BAD_INTERFACE": "the program was built with the header of another library",
    "BAD_PROCESSOR": "the processor or its system lacks what the code needs",
    "BAD_WEIGHTS": "the file of the weights cannot be read, or belongs to another network",
    "BAD_INDEX": "an input holds an index that lies outside of the table that it is for",
    "NO_MEMORY": "there is not enough memory",
    "NO_THREADS": "the threads cannot be started",
}
_POOL = {
    "alignment": threads.ALIGNMENT,
    "state_bytes": runtime.STATE_BYTES,
    "code": runtime.CODE,
    "arguments": runtime.ARGUMENTS,
    "stride": runtime.STRIDE,
    "threads": runtime.THREADS,
    "wait_spins": runtime.WAIT_SPINS,
    "idle_offers": runtime.IDLE_OFFERS,
    "offers": threads.IDLE_OFFERS,
    "spin_seconds": threads.SPIN_SECONDS,
    "spins_timed": threads.SPINS_TIMED,
}


@dataclass(frozen=True)
class Variant:
    """The code for one target.

    Attributes:
        target: the processor.
        names: how the code is called.
        interface: what its functions take.
    """

    target: Target
    names: CodeNames
    interface: Interface


@dataclass(frozen=True)
class ExportTexts:
    """What is written beside the code of one network.

    Attributes:
        name: the network's, a C identifier.
        ports: its inputs and outputs.
        variants: its code, the best first.
        layout: of its weights.
        embedded: whether the weights are in the code instead of in a file.
    """

    name: str
    ports: Ports
    variants: tuple[Variant, ...]
    layout: WeightsLayout
    embedded: bool

    @property
    def header(self) -> str:
        return _render("model.h", self._values)

    @property
    def glue(self) -> str:
        """The C file that the header's functions are in."""
        return _render("model.c", self._values)

    @property
    def cmake(self) -> str:
        return _render("Config.cmake", self._values)

    @property
    def link_map(self) -> str:
        """What a shared library shows of itself, as a version script for the linker."""
        names = "".join(f" {self.name}_{each};" for each in FUNCTIONS)
        return f"{{ global:{names} local: *; }};\n"

    @cached_property
    def _values(self) -> dict[str, Any]:
        variants = _described(self.variants, self.layout.places)
        parameters = [f"const {p.c_type} *{p.name}" for p in self.ports.inputs]
        parameters += [f"{p.c_type} *{p.name}" for p in self.ports.outputs]
        return {
            "mark": MARK,
            "version": __version__,
            "name": self.name,
            "upper": self.name.upper(),
            "pool_names": self.variants[-1].names,
            "weights_symbol": self.variants[0].names.weights,
            "ports": self.ports,
            "all_ports": [*(("input", p) for p in self.ports.inputs), *(("output", p) for p in self.ports.outputs)],
            "index_bits": sorted({p.dtype.itemsize * 8 for p in self.ports.inputs if p.below is not None}),
            "parameters": ", ".join([f"{self.name}_model *model", *parameters]),
            "interface": f"{self.name}{self.ports}, loopmorph interface {_VERSION}",
            "statuses": list(_STATUSES.items()),
            "targets": ", ".join(each.target for each in variants),
            "target_variable": TARGET_VARIABLE,
            "variants": variants,
            "features": [feature for each in variants for feature in each.features],
            "threads": self.variants[0].interface.threads,
            "pool": _POOL,
            "alignment": marks.ALIGNMENT,
            "huge_page": HUGE_PAGE,
            "layout": self.layout,
            "weights_name": "" if self.embedded else f"{self.name}.safetensors",
            "shared": f"lib{self.name}.so",
            "static": f"lib{self.name}.a",
            "arguments": [argument for each in variants for argument in (*each.prepare, *each.run)],
            "most_prepare": max(len(each.prepare) for each in variants),
            "most_run": max(len(each.run) for each in variants),
            "scratch_bytes": max(each.scratch_bytes for each in variants),
        }


@dataclass(frozen=True)
class _Described:
    """A variant as the C file has it: its tables are parts of those of all variants.

    Attributes:
        target: the processor's name.
        names: how the code is called.
        features: what it needs.
        first_feature: where they begin in the list of all.
        prepare, run: the role and the place of each argument.
        first_argument: where those of `prepare` begin in the list of all; those of `run` follow.
        packed_bytes, scratch_bytes: memory.
    """

    target: str
    names: CodeNames
    features: tuple[Feature, ...]
    first_feature: int
    prepare: list[tuple[str, int]]
    run: list[tuple[str, int]]
    first_argument: int
    packed_bytes: int
    scratch_bytes: int


def _described(variants: Sequence[Variant], weights: Mapping[str, int]) -> list[_Described]:
    found: list[_Described] = []
    feature = argument = 0
    for each in variants:
        packed, scratch = (_places(each.interface, role) for role in ("packed", "scratch"))
        prepare, run = (
            [_argument(a, weights, packed, scratch) for a in signature]
            for signature in (each.interface.prepare, each.interface.run)
        )
        needed = required_features(each.target)
        sizes = packed.size, scratch.size
        found.append(_Described(str(each.target), each.names, needed, feature, prepare, run, argument, *sizes))
        feature, argument = feature + len(needed), argument + len(prepare) + len(run)
    return found


@dataclass(frozen=True)
class _Places:
    """Pieces of one memory: where each begins, by its key, and the bytes of all."""

    starts: Mapping[str | int, int]
    size: int


def _places(interface: Interface, role: str) -> _Places:
    """Where the memrefs of a role lie, each at a multiple of a cache line."""
    sizes: dict[str | int, int] = {}
    for each in (*interface.prepare, *interface.run):
        if each.role == role:
            sizes[each.key] = max(each.nbytes, sizes.get(each.key, 0))
    starts, end = {}, 0
    for key, size in sizes.items():
        starts[key] = end
        end += -(-size // marks.ALIGNMENT) * marks.ALIGNMENT
    return _Places(starts, end)


def _argument(each: Argument, weights: Mapping[str, int], packed: _Places, scratch: _Places) -> tuple[str, int]:
    """The role and the place of an argument, as the C file has them."""
    if each.role == "param":
        return _ROLES[each.role], weights[str(each.key)]
    memory = {"packed": packed, "scratch": scratch}.get(each.role)
    return _ROLES[each.role], int(each.key) if memory is None else memory.starts[each.key]


def _render(template: str, values: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(TEMPLATES)
    made = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    made.filters["c_string"] = _c_string
    return made


def _c_string(text: str) -> str:
    """A string literal of C; what is not plain ASCII as octal escapes of its UTF-8 bytes."""
    plain = {byte: chr(byte) for byte in range(0x20, 0x7F)} | {ord('"'): '\\"', ord("\\"): "\\\\"}
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode()) + '"'
