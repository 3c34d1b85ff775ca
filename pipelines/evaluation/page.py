"""`docs/evaluation.md` and its pictures, made of stored studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loopmorph.pipelines.evaluation import comparison, operators_section, others
from loopmorph.pipelines.evaluation.calibration_section import calibration_section
from loopmorph.pipelines.evaluation.section import Part, Studies
from loopmorph.pipelines.evaluation.study import Study
from loopmorph.pipelines.support.files import write_atomically

COMMAND = "python -m loopmorph.tools.cli evaluation page docs/evaluation -o docs/evaluation.md"
_INTRODUCTION = f"""# Evaluation

Made from the files in [evaluation](evaluation) by

```sh
{COMMAND}
```

and not written by hand: every figure here was measured and is stored there with its setting, and what was not measured
is said to be so. `loopmorph evaluation add` turns what `optimize`, `finetune`, `bench` and `operators` write into such
files. A row of a rewritten network is made again, from nothing but the images, by one command:

```sh
loopmorph evaluation row docs/evaluation/resnet34-longer.json '4x joint by harm' --data DATA -o FOLDER
```

It trains the original, rewrites and repairs it, times both in turns, trains the rewritten network on, and prints what
it finds beside what is stored. Asked for a row that is not there, it names those that are.
"""
_SECTIONS: tuple[Callable[[Studies], Part], ...] = (
    comparison.comparison_section,
    others.engines_section,
    others.rewritten_section,
    operators_section.operators_section,
    others.imagenet_section,
    others.precision_section,
    others.pruning_section,
    others.search_section,
    calibration_section,
)


def make_page(studies: Mapping[str, Study]) -> tuple[str, dict[str, str]]:
    """The page and its pictures.

    Args:
        studies: by the name of their file.

    Returns:
        The page in Markdown; and the name of each picture's file, which the page looks for in a folder `evaluation`
        beside it, -> SVG.
    """
    parts = [section(Studies(studies)) for section in _SECTIONS]
    text = "\n".join([_INTRODUCTION, *("\n".join(part.lines).rstrip() + "\n" for part in parts)])
    return text, {name: picture for part in parts for name, picture in part.pictures.items()}


def write_page(studies: Mapping[str, Study], page: Path, folder: Path) -> list[Path]:
    """Writes the page, and its pictures into the folder of the studies; returns what was written.

    Raises:
        ArgumentError: a file cannot be written.
    """
    text, pictures = make_page(studies)
    written = {page: text} | {folder / name: picture for name, picture in pictures.items()}
    for path, content in written.items():
        _write(path, content)
    return list(written)


def _write(path: Path, content: str) -> None:
    write_atomically(path, lambda file: file.write(content.encode()), argument="output")
