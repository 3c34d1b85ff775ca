"""Weights in a file that compiled code maps into memory: the safetensors format, laid out so that nothing is copied.

See https://github.com/huggingface/safetensors#format: eight bytes with the length of a header, the header (JSON), then
the tensors without gaps, each dense and little-endian. The larger ones begin at multiples of 64 bytes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from loopmorph.passes import marks
from loopmorph.pipelines.codegen.signature import Argument

_TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "bool": "BOOL",
}
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3


@dataclass(frozen=True)
class WeightsLayout:
    """Where the weights lie in a file.

    Attributes:
        header: all that comes before the first tensor.
        places: name -> the first byte of the tensor, from the beginning of the file.
        arguments: name -> what the code takes, in the order of the file.
        size: bytes of the file.
    """

    header: bytes
    places: Mapping[str, int]
    arguments: Mapping[str, Argument]
    size: int

    @property
    def fingerprint(self) -> int:
        """A 64-bit hash of the header (FNV-1a): tells files apart that hold other tensors."""
        value = _FNV_OFFSET
        for byte in self.header:
            value = (value ^ byte) * _FNV_PRIME % 2**64
        return value

    def content(self, parameters: Mapping[str, torch.Tensor]) -> bytes:
        """The file with the values of these parameters."""
        return b"".join([self.header, *(_bytes(parameters[name]) for name in self.arguments)])


def lay_out(arguments: Iterable[Argument], about: str) -> WeightsLayout:
    """The layout of a file that holds what compiled functions take as parameters.

    Args:
        arguments: of these functions; those that are no parameters are passed over.
        about: kept in the file's metadata.
    """
    wanted = {str(each.key): each for each in arguments if each.role == "param"}
    # Whole cache lines first, then by the size of the elements: then each tensor is aligned as well as can be.
    order = sorted(wanted, key=lambda name: (wanted[name].nbytes % marks.ALIGNMENT > 0, -wanted[name].item_bytes))
    entries: dict[str, object] = {"__metadata__": {"format": "pt", "about": about}}
    starts, end = {}, 0
    for name in order:
        each, starts[name] = wanted[name], end
        end += each.nbytes
        entries[name] = {"dtype": _TYPES[each.dtype], "shape": list(each.shape), "data_offsets": [starts[name], end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % marks.ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    places = {name: len(header) + start for name, start in starts.items()}
    return WeightsLayout(header, places, {name: wanted[name] for name in order}, len(header) + end)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
