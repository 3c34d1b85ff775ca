"""The textual grammar of pass pipelines, without any knowledge of the passes.

MLIR's own grammar, so that a pipeline pastes into `mlir-opt` and back (EBNF; blanks and line ends may stand between
any two tokens):

    pipeline = [ element { "," element } ]
    element  = name [ "{" options "}" ]          a pass
             | name "(" pipeline ")"             the passes for one kind of operation, e.g. func.func(cse)
    name     = word { "." word }                 word of letters, digits, "-" and "_"
    options  = any text in which braces and quotes balance

Inside the options of loopmorph's own passes:

    options  = { key [ "=" value ] }             separated by blanks; a key alone means key=true
    key      = word in kebab-case
    value    = item { "," item }                 an item is a run of characters without blanks and any of
                                                 , = { } ' " or is quoted: 'a b' or "a b"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loopmorph.passes.errors import ArgumentError

_MOST_LEVELS = 64
_LONGEST_LINE = 200  # characters that a message shows
_NAME = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*")
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_BARE_ITEM = re.compile(r"[^\s,={}'\"]*")


@dataclass(frozen=True)
class Syntax:
    """One element as written; offsets count characters from the start of the pipeline text.

    `options` is the text between the braces, None without braces; `children` is None unless `name(...)` was written.
    """

    name: str
    offset: int
    options: str | None = None
    options_offset: int = 0
    children: tuple[Syntax, ...] | None = None


@dataclass(frozen=True)
class OptionSyntax:
    """One `key=item,item` of a pass; `items` is None for a key alone. Offsets as in `Syntax`."""

    key: str
    items: tuple[str, ...] | None
    key_offset: int
    value_offset: int


def complaint(text: str, offset: int, message: str) -> ArgumentError:
    """An error about the pipeline `text`, which shows the line concerned and a caret under the culprit."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    line, column = text[start : len(text) if end < 0 else end], offset - start
    if len(line) > _LONGEST_LINE:
        first = max(0, column - _LONGEST_LINE // 2)
        line, column = f"...{line[first : first + _LONGEST_LINE]}...", column - first + 3
    return ArgumentError("pipeline", f"{message}\n  {line}\n  {' ' * column}^")


def parse_syntax(text: str) -> tuple[Syntax, ...]:
    """Reads a whole pipeline.

    Raises:
        ArgumentError: the text does not follow the grammar.
    """
    reader = _Reader(text)
    elements = reader.pipeline()
    if reader.peek():
        what = "unbalanced" if reader.peek() in ")}" else "expected ',' before"
        raise complaint(text, reader.offset, f"{what} '{reader.peek()}'")
    return elements


def parse_options(text: str, element: Syntax) -> tuple[OptionSyntax, ...]:
    """Reads the options of one of loopmorph's own passes; `text` is the whole pipeline.

    Raises:
        ArgumentError: the options do not follow the grammar.
    """
    if element.options is None:
        return ()
    reader = _Reader(text, element.options_offset, element.options_offset + len(element.options))
    options = []
    while reader.peek():
        options.append(reader.option())
    return tuple(options)


class _Reader:
    """A cursor over `text[offset:end]`."""

    def __init__(self, text: str, offset: int = 0, end: int | None = None) -> None:
        self.text = text
        self.offset = offset
        self.end = len(text) if end is None else end
        self._depth = 0  # of parentheses

    def peek(self) -> str:
        """The next character that is not blank, or the empty string at the end."""
        while self.offset < self.end and self.text[self.offset].isspace():
            self.offset += 1
        return self._here()

    def pipeline(self) -> tuple[Syntax, ...]:
        if self.peek() in ("", ")"):
            return ()
        elements = [self._element()]
        while self.peek() == ",":
            self.offset += 1
            elements.append(self._element())
        return tuple(elements)

    def option(self) -> OptionSyntax:
        offset = self.offset
        key = self._match(_KEY, "an option")
        if self._here() != "=":
            return OptionSyntax(key, None, offset, offset)
        self.offset += 1
        value_offset = self.offset
        items = [self._item()]
        while self._here() == ",":
            self.offset += 1
            items.append(self._item())
        if self._here() and not self._here().isspace():
            raise complaint(self.text, self.offset, f"expected a blank between options, got '{self._here()}'")
        return OptionSyntax(key, tuple(items), offset, value_offset)

    def _element(self) -> Syntax:
        self.peek()
        offset = self.offset
        name = self._match(_NAME, "the name of a pass")
        if self.peek() == "(":
            return self._nested(name, offset)
        if self.peek() == "{":
            start = self.offset + 1
            self._skip_braces()
            return Syntax(name, offset, self.text[start : self.offset - 1], start)
        return Syntax(name, offset)

    def _nested(self, name: str, offset: int) -> Syntax:
        opening = self.offset
        if self._depth == _MOST_LEVELS:
            raise complaint(self.text, opening, f"nests deeper than {_MOST_LEVELS} levels")
        self.offset += 1
        self._depth += 1
        children = self.pipeline()
        self._depth -= 1
        if self.peek() == "":
            raise complaint(self.text, opening, "unbalanced '('")
        if self.peek() != ")":
            raise complaint(self.text, self.offset, f"expected ',' or ')', got '{self.peek()}'")
        self.offset += 1
        return Syntax(name, offset, children=children)

    def _skip_braces(self) -> None:
        opening, depth = self.offset, 0
        while self.offset < self.end:
            char = self.text[self.offset]
            if char in "'\"":
                self._skip_quotes()
                continue
            self.offset += 1
            depth += (char == "{") - (char == "}")
            if depth == 0:
                return
        raise complaint(self.text, opening, "unbalanced '{'")

    def _skip_quotes(self) -> None:
        closing = self.text.find(self._here(), self.offset + 1, self.end)
        if closing < 0:
            raise complaint(self.text, self.offset, f"unbalanced {self._here()}")
        self.offset = closing + 1

    def _item(self) -> str:
        start = self.offset
        if self._here() in ("'", '"'):
            self._skip_quotes()
            return self.text[start + 1 : self.offset - 1]
        return self._match(_BARE_ITEM, "a value")

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.text, self.offset, self.end)
        if match is None:
            got = f"'{self._here()}'" if self._here() else "the end"
            raise complaint(self.text, self.offset, f"expected {what}, got {got}")
        self.offset = match.end()
        return match[0]

    def _here(self) -> str:
        return self.text[self.offset] if self.offset < self.end else ""
