"""An exported shared library, called through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from loopmorph.pipelines.export import Exported


class Linked:
    """The library of an export."""

    def __init__(self, exported: Exported) -> None:
        self.exported, name = exported, exported.name
        # A copy of its own: the loader takes a library that it has already for one of the same path.
        self._library = ctypes.CDLL(str(exported.folder / f"lib{name}.so"))
        self._prepare, self._run, self._free = (
            getattr(self._library, f"{name}_{each}") for each in ("prepare", "run", "free")
        )

    @property
    def interface(self) -> str:
        """What the header says."""
        header = (self.exported.folder / f"{self.exported.name}.h").read_text()
        line = next(line for line in header.splitlines() if "_INTERFACE " in line)
        return line.partition('"')[2].rstrip('"')

    @property
    def weights(self) -> str | None:
        """The path of the weights, where they are in a file."""
        path = self.exported.folder / f"{self.exported.name}.safetensors"
        return str(path) if path.exists() else None

    def refusal(self, *, interface: str | None = None, weights: str | None = None) -> tuple[int, str]:
        """The status of a preparation that fails, and what it says."""
        status, message, model = self._prepared(interface or self.interface, weights or self.weights)
        assert model.value is None
        return status, message

    @contextmanager
    def model(self, weights: str | None = None) -> Iterator[ctypes.c_void_p]:
        """A model that is ready to run."""
        status, message, model = self._prepared(self.interface, weights or self.weights)
        assert (status, message) == (0, "")
        try:
            yield model
        finally:
            self._free(model)

    def target(self, model: ctypes.c_void_p) -> str:
        """Which processor its code is for."""
        ask = getattr(self._library, f"{self.exported.name}_target")
        ask.restype = ctypes.c_char_p
        return ask(model).decode()

    def run(self, model: ctypes.c_void_p, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs for some inputs."""
        status, outputs = self.status(model, inputs)
        assert status == 0
        return outputs

    def status(self, model: ctypes.c_void_p, inputs: Sequence[torch.Tensor]) -> tuple[int, list[torch.Tensor]]:
        """What a call says, and the outputs."""
        outputs = [torch.full(port.shape, 7).to(port.dtype) for port in self.exported.outputs]
        return self._run(model, *(ctypes.c_void_p(each.data_ptr()) for each in (*inputs, *outputs))), outputs

    def _prepared(self, interface: str, weights: str | None) -> tuple[int, str, ctypes.c_void_p]:
        model, message = ctypes.c_void_p(), ctypes.create_string_buffer(512)
        path = None if weights is None else weights.encode()
        status = self._prepare(ctypes.byref(model), interface.encode(), path, message, ctypes.c_size_t(512))
        return status, message.value.decode(), model
