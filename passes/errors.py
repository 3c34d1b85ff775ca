"""The kinds of error that loopmorph raises on purpose.

`ArgumentError` is the caller's mistake and names the argument; `IllegalTransform` is a property of the program at
hand and names the operation. Library code raises; only the command-line mains print and exit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class LoopmorphError(Exception):
    """Base of every error that a user can provoke; `str()` of it is one clear line."""


class LoopmorphWarning(UserWarning):
    """Base of every warning of loopmorph; the text is one clear line."""


class ArgumentError(LoopmorphError, ValueError):
    """A caller's mistake: an unknown name, a value of the wrong type or range.

    Args:
        argument: name of the argument (or option) at fault.
        message: what was wrong and what would be accepted.
    """

    def __init__(self, argument: str, message: str) -> None:
        self.argument = argument
        self.message = message
        super().__init__(f"argument '{argument}': {message}")

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        return type(self), (self.argument, self.message)


def require_least(argument: str, value: int, least: int, unit: str) -> None:
    """Raises:
    ArgumentError: fewer than `least` of a unit ("lanes in a vector").
    """
    if value < least:
        raise ArgumentError(argument, f"expected at least {least} {unit}, got {value}")


class IllegalTransform(LoopmorphError):
    """A transformation that this program does not admit.

    Args:
        where: the layer, loop or parameter concerned, with its source location where one is known.
        reason: the property that forbids the transformation.

    Attributes:
        explain: where set, gives the nest that the refusal is about, with the culprit lines marked (see
            `loopmorph.passes.explain`); as long as the program has not been changed since.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        self.explain: Callable[[], str] | None = None
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[type[IllegalTransform], tuple[str, str]]:
        return type(self), (self.where, self.reason)


class ImportRefused(LoopmorphError):
    """A model that cannot be brought into MLIR: names the operation and the place in the model."""


class CompilationFailed(LoopmorphError):
    """A program that cannot be lowered, or whose compiled form crashed or hung."""


class WrongResult(LoopmorphError):
    """Compiled code that computes something else than PyTorch: a fault of loopmorph, never of the program."""


class MissingPackage(LoopmorphError, ImportError):
    """Something that takes a package which is not installed; says what, which package, and what brings it."""


class DataError(LoopmorphError):
    """A data set that is missing, truncated, of another format, or unsafe to read; names the file."""


def first_of(names: Sequence[str], limit: int) -> str:
    """The first names, and how many more there are, for a message."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def one_line(text: str) -> str:
    """`text` with every run of blanks and line ends made one blank."""
    return " ".join(text.split())
