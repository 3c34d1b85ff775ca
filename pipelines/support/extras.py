"""Packages that not every user needs, and that come with an extra of loopmorph."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from loopmorph.passes.errors import ArgumentError, MissingPackage

# What the extra `mlir` brings, as it is imported -> as it is called. Without it networks can be loaded and trained.
_OF_MLIR = {
    "torch_mlir": "torch-mlir",
    **{name: name for name in ("archspec", "cloudpickle", "islpy", "jinja2", "optuna", "platformdirs", "scipy")},
}


@contextlib.contextmanager
def needs_mlir(what: str) -> Iterator[None]:
    """Says what cannot be done where an import inside fails for want of a package of the extra `mlir`.

    Args:
        what: what is imported for, as a subject: "lm.compile".

    Raises:
        MissingPackage: such a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = _OF_MLIR.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise MissingPackage(
            f"{what} takes MLIR, and {package} is not installed: pip install 'loopmorph[mlir]'"
        ) from error


def require_extra(argument: str, module: str, extra: str, reason: str) -> None:
    """Makes sure that a package of an extra is there.

    Args:
        argument: what asked for it.
        module: the package, as it is imported.
        extra: what brings it.
        reason: what it is needed for, to be said where it is missing.

    Raises:
        ArgumentError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise ArgumentError(argument, f"{reason}: pip install 'loopmorph[{extra}]'")
