"""Two polyhedral views of a program beside each other: before and after a schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher

from loopmorph.passes.analysis.polyhedral.text import Document, wrapped

COLUMN = 76  # characters


def side_by_side(before: Sequence[Document], after: Sequence[Document]) -> str:
    """The documents of the same nest in two columns of `COLUMN` characters, as `diff --side-by-side` shows files.

    Between the columns stands ` ` where both have the line, `|` where it differs, `<` and `>` where one lacks it. Of
    nests, and of keys of a nest, that are the same there is one line.

    Args:
        before, after: the documents, for lines of `COLUMN` characters.
    """
    return "".join(f"{line}\n" for line in _lines(before, after))


def _lines(before: Sequence[Document], after: Sequence[Document]) -> Iterator[str]:
    for old, new in _pairs(before, after):
        if old is not None and new is not None and old.lines == new.lines:
            yield f"==== {new.title}: unchanged"
        elif old is not None and new is not None:
            yield f"==== {new.title}: before, after"
            yield from _changes(_sections(old), _sections(new))
        elif new is not None:
            yield f"==== {new.title}: new"
            yield from _columns((), new.lines)
        elif old is not None:
            yield f"==== {old.title}: gone"
            yield from _columns(old.lines, ())


def _changes(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for key in dict.fromkeys([*new, *old]):
        before, after = old.get(key, ()), new.get(key, ())
        if before != after:
            yield from _columns(before, after)
        elif key not in ("nest", "function"):  # which the title says
            yield f"{key}: unchanged"


def _sections(document: Document) -> dict[str, list[str]]:
    """The lines of each key, and each comment."""
    found: dict[str, list[str]] = {}
    for line in document.lines:
        if not line.startswith(" "):
            key = line if line.startswith("#") else line.partition(":")[0]
        found.setdefault(key, []).append(line)
    return found


def _columns(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The lines of two texts beside each other."""
    left, right = ([part for line in lines for part in wrapped(line, COLUMN)] for lines in (before, after))
    for tag, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for row in range(max(j - i, m - k)):
            old, new = (left[i + row] if row < j - i else None), (right[k + row] if row < m - k else None)
            mark = " " if tag == "equal" else "<" if new is None else ">" if old is None else "|"
            yield f"{old or '':<{COLUMN}} {mark} {new or ''}".rstrip()


def _pairs(before: Sequence[Document], after: Sequence[Document]) -> Iterator[tuple[Document | None, Document | None]]:
    """The documents of one title, in the order of the program after; those that have gone come last."""
    old = {document.title: document for document in before}
    yield from ((old.pop(document.title, None), document) for document in after)
    yield from ((document, None) for document in old.values())
