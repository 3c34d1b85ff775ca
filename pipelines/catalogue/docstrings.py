"""Docstrings of passes, taken apart for the catalogue."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loopmorph.passes.base import Pass
from loopmorph.passes.errors import ArgumentError

_OPTION = re.compile(r"(?P<name>\w+): (?P<meaning>.*)")
_ARROW = re.compile(r"\s{2,}->\s{2,}")
_BEFORE, _AFTER = re.compile(r"\b[Bb]efore\b"), re.compile(r"^After\b|\bbecomes:$", re.MULTILINE)
REQUIRES = "Requires"


@dataclass(frozen=True)
class Block:
    """A paragraph, a list, or lines of code, without the indentation of the docstring."""

    kind: Literal["text", "code"]
    text: str


@dataclass(frozen=True)
class Description:
    """What the docstring of a pass says.

    Attributes:
        summary: the first paragraph, on one line.
        blocks: what follows, up to the options, in order.
        options: option name -> its meaning.
        examples: the texts of this pass that it shows, `morph-split{layer=conv1 iter=ow factor=4}`.
        prepared: the pipelines that it shows, at whose end this pass stands.
    """

    summary: str
    blocks: tuple[Block, ...]
    options: dict[str, str]
    examples: tuple[str, ...]
    prepared: tuple[str, ...]

    @property
    def requirements(self) -> tuple[Block, ...]:
        """The blocks from the paragraph that begins with "Requires" to the end of its list; empty if there is none."""
        for start, block in enumerate(self.blocks):
            if block.text.startswith(REQUIRES):
                end = start + 1
                while end < len(self.blocks) and self.blocks[end].text.startswith("- "):
                    end += 1
                return self.blocks[start:end]
        return ()

    @property
    def shows_change(self) -> bool:
        """Whether there is IR before and after: side by side, or each in its own block after a word that says so."""
        if any(block.kind == "code" and _ARROW.search(block.text) for block in self.blocks):
            return True
        introduced = [a.text for a, b in zip(self.blocks, self.blocks[1:], strict=False) if (b.kind) == "code"]
        return any(_BEFORE.search(text) for text in introduced) and any(_AFTER.search(text) for text in introduced)


def describe(cls: type[Pass]) -> Description:
    """Takes the docstring of a pass apart.

    Raises:
        ArgumentError: it has none, or its list of options is not that of the pass; names the pass.
    """
    text = inspect.cleandoc(cls.__doc__ or "") if "__doc__" in vars(cls) else ""
    if not text or text.startswith(f"{cls.__name__}("):  # what `dataclass` writes where there is none
        raise ArgumentError("passes", f"'{cls.name}' has no docstring")
    head, options = _cut_options(text)
    known = set(cls.option_types())
    if options.keys() != known and (options or getattr(cls, "kind", None)):
        wrong = ", ".join(sorted(options.keys() ^ known))
        raise ArgumentError("passes", f"the docstring of '{cls.name}' and its options do not agree on: {wrong}")
    first, *blocks = _blocks(head)
    own, flat = rf"{re.escape(cls.name)}\{{[^{{}}`]*\}}", " ".join(head.split())
    examples = tuple(dict.fromkeys(re.findall(rf"(?<![\w-]){own}", flat)))
    prepared = tuple(text.replace(" morph-", "morph-") for text in re.findall(rf"`(morph-[^`]*\}}, ?{own})`", flat))
    return Description(" ".join(first.text.split()), tuple(blocks), options, examples, prepared)


def require_complete(cls: type[Pass], description: Description) -> None:
    """Makes sure that a transformation's docstring has what the catalogue shows.

    Raises:
        ArgumentError: it does not say what the transformation requires, or lacks an example or the IR before and after;
            names the transformation.
    """
    if not description.requirements:
        raise ArgumentError("passes", f"the docstring of '{cls.name}' has no paragraph that begins with 'Requires'")
    if not description.shows_change:
        raise ArgumentError("passes", f"the docstring of '{cls.name}' does not show the IR before and after")
    if not description.examples:
        raise ArgumentError("passes", f"the docstring of '{cls.name}' has no example such as '{cls.name}{{layer=a}}'")


def _cut_options(text: str) -> tuple[str, dict[str, str]]:
    """What stands before the section `Options:` or `Attributes:`, and the meanings that the section lists."""
    head, separator, section = re.sub(r"^Attributes:$", "Options:", text, flags=re.MULTILINE).partition("\nOptions:\n")
    options: dict[str, str] = {}
    name = ""
    for line in section.splitlines() if separator else ():
        match = _OPTION.fullmatch(line.removeprefix("    "))
        if match is not None and not line.startswith("     "):
            name = match["name"]
            options[name] = match["meaning"]
        elif name and line.strip():
            options[name] += " " + line.strip()
    return head, options


def _blocks(text: str) -> Sequence[Block]:
    return list(_grouped(text.splitlines()))


def _grouped(lines: Sequence[str]) -> Iterator[Block]:
    """Runs of lines that are indented by four (with the empty lines within), and the paragraphs between."""
    start = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        code = lines[start].startswith("    ")
        end = start + 1
        while end < len(lines) and _continues(lines, end, code):
            end += 1
        kept = [line[4:] if code else line for line in lines[start:end]]
        yield Block("code" if code else "text", "\n".join(kept).rstrip())
        start = end


def _continues(lines: Sequence[str], position: int, code: bool) -> bool:
    line = lines[position]
    if not code:
        return bool(line.strip())
    following = next((other for other in lines[position:] if other.strip()), "")
    return following.startswith("    ")
