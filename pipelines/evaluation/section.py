"""What a section of the page is made of and what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loopmorph.pipelines.evaluation.study import Section, Study


@dataclass(frozen=True)
class Studies:
    """All studies, by the name of their file."""

    by_name: Mapping[str, Study]

    def of(self, section: Section) -> dict[str, Study]:
        """Those of a section, by name."""
        return {name: study for name, study in self.by_name.items() if study.section == section}


@dataclass(frozen=True)
class Part:
    """A section as Markdown.

    Attributes:
        lines: of it, its heading first.
        pictures: name of a file in the folder of the studies -> SVG.
    """

    lines: list[str]
    pictures: dict[str, str] = field(default_factory=dict)
