"""Reading the CIFAR-10 python batches without running the pickle's code.

A pickle is a program: its GLOBAL opcode names any importable function and REDUCE calls it. The batches need four
globals only (NumPy's array, dtype and scalar rebuilders, and `_codecs.encode` for bytes in old protocols). Here even
those four are not NumPy's own: each name is mapped to a small class of this file that checks its arguments, so that
neither NumPy's `__setstate__` nor any codec sees data that nobody has looked at.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from loopmorph.passes.errors import DataError

MAX_BYTES = 256 << 20  # of a file; one of CIFAR-10's has 31 MB
_PLAIN_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}
_BYTE_ORDERS = {"|", "=", "<", ">"}
# What a damaged or forged pickle makes the unpickler and the constructors below raise.
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that no CIFAR batch needs."""


class _Sealed:
    """Base of what stands on the unpickler's stack: BUILD must not set attributes on it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"it sets the state of a {type(self).__name__}")


class _Admitted(_Sealed):
    """An admitted global: callable, and nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Dtype(_Sealed):
    """Stands for `numpy.dtype`; becomes a plain number type only."""

    __slots__ = ("_kind", "_order")

    def __init__(self, kind: Any, *_flags: Any) -> None:
        self._kind = _text(kind)
        self._order = "="
        if self._kind not in _PLAIN_TYPES:
            raise _Refused(f"it holds an array of type '{self._kind}'")

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, sub-array, names, fields, size, alignment, flags)
        order = _text(state[1])
        if order not in _BYTE_ORDERS or any(field is not None for field in state[2:5]):
            raise _Refused("it holds an array of a structured type")
        self._order = order

    def resolve(self) -> np.dtype[Any]:
        """The NumPy type."""
        return np.dtype(self._order + self._kind)


class _Array(_Sealed):
    """Stands for an array until its bytes arrive with BUILD."""

    __slots__ = ("_values",)

    def __init__(self, *_empty: Any) -> None:
        self._values: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self._values = _numbers(raw, dtype, shape, "F" if fortran else "C")

    @classmethod
    def from_buffer(cls, raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        """Protocol 5: `_frombuffer(buffer, dtype, shape, order)`."""
        array = cls()
        array._values = _numbers(raw, dtype, shape, order)
        return array

    def resolve(self) -> np.ndarray[Any, Any]:
        """The NumPy array."""
        if self._values is None:
            raise _Refused("it holds an array without values")
        return self._values


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, str):
        return value
    raise _Refused(f"it has a {type(value).__name__} where a name belongs")


def _numbers(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise _Refused("it holds an array that is not plain bytes")
    return np.frombuffer(raw, dtype=dtype.resolve()).reshape(shape, order=order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _numbers(raw, dtype, (), "C").item()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise _Refused("it encodes text in another encoding than latin1")
    return text.encode("latin1")


def _admitted_globals() -> dict[tuple[str, str], _Admitted]:
    found: dict[tuple[str, str], _Admitted] = {
        ("numpy", "ndarray"): _Admitted(_Array),
        ("numpy", "dtype"): _Admitted(_Dtype),
        ("_codecs", "encode"): _Admitted(_encode),
    }
    for core in ("numpy.core", "numpy._core"):  # NumPy 1.x and 2.x
        found[core + ".multiarray", "_reconstruct"] = _Admitted(_Array)
        found[core + ".multiarray", "scalar"] = _Admitted(_scalar)
        found[core + ".numeric", "_frombuffer"] = _Admitted(_Array.from_buffer)
    return found


_GLOBALS = _admitted_globals()


class _BatchUnpickler(pickle.Unpickler):
    """An unpickler that knows the globals of `_GLOBALS` only and imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """Overrides the import of a global by a look-up."""
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise _Refused(f"it asks for '{module}.{name}', which no CIFAR-10 batch needs") from None

    def persistent_load(self, pid: Any) -> Any:
        """No batch refers to objects outside its file."""
        raise _Refused("it refers to an object outside the file")


def _check_opcodes(data: bytes) -> None:
    """Walks the opcodes without executing them: a lying length or memo index would make the unpickler allocate it."""
    for opcode, argument, _position in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise _Refused("it uses a memo index beyond its own length")


def load_batch_pickle(path: str | Path) -> dict[str, Any]:
    """Reads one file of the CIFAR-10 python version (`data_batch_1`, `batches.meta`, ...).

    Original Python 2 pickles and those written again by Python 3 (NumPy 1.x or 2.x, any protocol) are read alike.

    Args:
        path: the file.

    Returns:
        The file's dictionary with `str` keys; arrays are NumPy arrays of numbers (read-only), byte strings stay bytes.

    Raises:
        DataError: the file cannot be read, is too large, is no pickle, is truncated, holds something else than a
            dictionary, or asks for any global but NumPy's plain arrays. Nothing of the pickle has been run then.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: is larger than {MAX_BYTES >> 20} MiB, so it is not a CIFAR-10 batch")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        _check_opcodes(data)
        content = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(content, dict):
            raise DataError(f"{path}: is not a CIFAR-10 batch: it holds a {type(content).__name__}, not a dictionary")
        return {_text(key): value.resolve() if isinstance(value, _Array) else value for key, value in content.items()}
    except _Refused as error:
        raise DataError(f"{path}: refused, this is not a CIFAR-10 batch: {error}") from error
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: is truncated or not a CIFAR-10 batch: {reason}") from error
