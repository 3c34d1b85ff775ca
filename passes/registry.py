"""All passes by name: loopmorph's own and those of installed plug-ins.

A plug-in is a package with an entry point in the group `loopmorph.passes` whose value names a tuple or list of
`Pass` subclasses:

    [project.entry-points."loopmorph.passes"]
    my-passes = "my_package.passes:PASSES"

loopmorph's own passes are found in the sub-packages of `loopmorph.passes`, so that an uninstalled checkout works
too; from there on both take the same way. The name of a pass stands in its class and nowhere else.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType

from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError
from loopmorph.passes.plug_ins import by_name, plug_ins

ENTRY_POINT_GROUP = "loopmorph.passes"
OWN_PACKAGES = tuple(
    f"loopmorph.passes.{room}" for room in ("ingress", "layout", "loop", "lowering", "neural", "scheduling", "spmd")
)

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OPTION_TYPES = (int, str, bool, tuple[int, ...], tuple[str, ...])


@functools.cache
def all_passes() -> Mapping[str, type[Pass]]:
    """Every registered pass, by name, in alphabetical order.

    The result is computed once in a process; `all_passes.cache_clear()` makes the next call look again.

    Raises:
        ArgumentError: a plug-in does not load, offers something that is not a pass, or takes a name twice.
    """
    return MappingProxyType(merge([*_own_passes(), *_plug_in_passes()]))


def merge(offers: Iterable[tuple[str, type[Pass]]]) -> dict[str, type[Pass]]:
    """Collects (provider, pass) pairs by the name of the pass, in alphabetical order.

    Raises:
        ArgumentError: an offer is not a usable pass, or two providers use one name; names the providers.
    """
    found = by_name(map(_checked, offers), "passes", "pass name")
    return dict(sorted(found.items()))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known word closest to `word`, or the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def nearest_first(word: str, known: Iterable[str]) -> list[str]:
    """All known words, those most like `word` first; equally near ones in their own order."""
    matcher = difflib.SequenceMatcher(b=word)

    def likeness(candidate: str) -> float:
        matcher.set_seq1(candidate)
        return matcher.ratio()

    return sorted(known, key=likeness, reverse=True)


def _own_passes() -> Iterator[tuple[str, type[Pass]]]:
    for package in OWN_PACKAGES:
        for module in _modules(importlib.import_module(package)):
            for _, cls in inspect.getmembers(module, inspect.isclass):
                declared_here = cls.__module__ == module.__name__ and "name" in vars(cls)
                if declared_here and issubclass(cls, Pass) and not inspect.isabstract(cls):
                    yield "loopmorph", cls


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield importlib.import_module(info.name)


def _plug_in_passes() -> Iterator[tuple[str, type[Pass]]]:
    for provider, classes in plug_ins(ENTRY_POINT_GROUP, (tuple, list), "a tuple or list of Pass classes"):
        for cls in classes:
            yield provider, cls


def _checked(offer: tuple[str, type[Pass]]) -> tuple[str, str, type[Pass]]:
    provider, cls = offer
    _check_pass(provider, cls)
    return provider, cls.name, cls


def _check_pass(provider: str, cls: type[Pass]) -> None:
    if not (inspect.isclass(cls) and issubclass(cls, Pass)):
        raise ArgumentError("passes", f"{provider} offers {cls!r}, which is not a subclass of Pass")
    where = f"{provider} offers {cls.__qualname__}"
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise ArgumentError("passes", f"{where}, which lacks {missing}")
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ArgumentError("passes", f"{where} with the name {name!r}; expected words in lower case joined by '-'")
    for option, kind in cls.option_types().items():
        if kind not in _OPTION_TYPES:
            kinds = ", ".join(_type_text(k) for k in _OPTION_TYPES)
            raise ArgumentError("passes", f"{where}, whose option '{option}' is none of {kinds}")


def _type_text(kind: type) -> str:
    return str(kind) if typing.get_origin(kind) else kind.__name__
