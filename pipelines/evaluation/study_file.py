"""Studies in files: JSON that is checked field by field, one file a study.

    {"format": "loopmorph-evaluation", "version": 1, "section": "networks",
     "model": "resnet34", "data": "CIFAR-10", "processor": "AMD family 25 model 17", "threads": 1,
     "gpu": "NVIDIA H200", "versions": {"torch": "2.11"}, "commit": "a75594a", "commands": ["loopmorph ..."],
     "notes": [],
     "recipes": {"teacher": {"title": "...", "epochs": 8, "command": "loopmorph finetune ..."}},
     "original": {...}, "networks": [{...}], "result": null, "searches": []}

All fields of `Study` and `Provenance` are there, with null, "" or an empty list for what was not recorded; a network is
written without those fields of `MeasuredNetwork` that it leaves out. The pipelines of a study's networks lie beside it,
in `pipelines/NAME.json`: name of a network -> text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from loopmorph.passes.errors import DataError
from loopmorph.pipelines.evaluation.study import (
    CHOICES,
    NETWORK_SECTIONS,
    RESULT_SECTIONS,
    MeasuredNetwork,
    Provenance,
    Recipe,
    Run,
    SearchCost,
    Section,
    Study,
)
from loopmorph.pipelines.rewritten.fields import Fields
from loopmorph.pipelines.support.files import write_atomically
from loopmorph.pipelines.support.json_file import read_json

FORMAT = "loopmorph-evaluation"
VERSION = 1
MAX_BYTES = 8 << 20
_Value = TypeVar("_Value")


def read_studies(folder: Path) -> dict[str, Study]:
    """The studies of a folder: name of a file without its suffix -> study, by name.

    Raises:
        DataError: there is no such folder, it holds none, or one of them is damaged (see `read_study`).
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"{folder}: there is no study in it; a folder with files NAME.json is expected")
    return {file.stem: read_study(file) for file in files}


def read_study(path: Path) -> Study:
    """Reads what `write_study` wrote.

    Raises:
        DataError: the file cannot be read, is no JSON, or a field of it is missing, not known, or not what it has to
            be; names the file, the field and what is expected.
    """
    return _study(str(path), _parsed(path))


def write_study(study: Study, path: Path) -> None:
    """Writes a study, whole or not at all.

    Raises:
        ArgumentError: the file cannot be written.
        DataError: the study is none that could be read again.
    """
    content = study_content(study)
    _study(str(path), content)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def study_content(study: Study) -> dict[str, Any]:
    """A study as JSON holds it."""
    content = json.loads(json.dumps(dataclasses.asdict(study)))  # tuples are lists in JSON
    provenance = content.pop("provenance")
    original, networks = content.pop("original"), content.pop("networks")
    return {
        "format": FORMAT,
        "version": VERSION,
        "section": content.pop("section"),
        **provenance,
        **content,
        "original": None if original is None else _without_defaults(original),
        "networks": [_without_defaults(network) for network in networks],
    }


def _without_defaults(network: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(MeasuredNetwork)}
    kept = {name: value for name, value in network.items() if value != defaults[name] and value != []}
    if "runs" in kept:
        kept["runs"] = [{name: value for name, value in run.items() if value != ""} for run in kept["runs"]]
    return kept


def _parsed(path: Path) -> Any:
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: has {path.stat().st_size:,} bytes; a study of at most {MAX_BYTES:,} is read")
    return read_json(path)


def _study(where: str, content: Any) -> Study:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{where}: is no study (format '{FORMAT}' is expected)")
    top = Fields.of(where, content, _names(Study, Provenance) - {"provenance"} | {"format", "version"})
    if top.integer("version") != VERSION:
        top.wrong("version", f"{VERSION}")
    section: Section = top.text("section", get_args(Section))  # type: ignore[assignment]
    recipes = {name: _recipe(f"{where}: recipes['{name}']", each) for name, each in _mapping(top, "recipes").items()}
    study = Study(
        section,
        _provenance(top),
        recipes,
        _optional(top, "original", lambda name: _network(f"{where}: original", top.content[name], recipes)),
        tuple(
            _network(f"{where}: networks[{number}]", each, recipes)
            for number, each in enumerate(top.sequence("networks"))
        ),
        _optional(top, "result", lambda name: _mapping(top, name)),
        tuple(_search(f"{where}: searches[{number}]", each) for number, each in enumerate(top.sequence("searches"))),
    )
    _check_parts(top, study)
    return study


def _check_parts(top: Fields, study: Study) -> None:
    """Refuses a study that lacks what its section shows, and networks that cannot be told apart."""
    if study.section in NETWORK_SECTIONS and study.original is None:
        top.wrong("original", f"a network, in the section '{study.section}',")
    if study.section in RESULT_SECTIONS and study.result is None:
        top.wrong("result", f"what the command wrote, in the section '{study.section}',")
    names = [network.name for network in study.networks]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise DataError(
                f"{top.where}: networks[{number}]: there is a network '{name}' already; another is expected"
            )


def _provenance(top: Fields) -> Provenance:
    return Provenance(
        top.text("model"),
        top.text("data"),
        _optional(top, "processor", top.text),
        _optional(top, "threads", top.integer),
        _optional(top, "gpu", top.text),
        _optional(top, "versions", lambda name: _texts(top, name)),
        _optional(top, "commit", top.text),
        top.texts("commands"),
        top.texts("notes"),
    )


def _recipe(where: str, content: Any) -> Recipe:
    fields = Fields.of(where, content, _names(Recipe))
    return Recipe(fields.text("title"), fields.integer("epochs"), fields.text("command"))


def _search(where: str, content: Any) -> SearchCost:
    fields = Fields.of(where, content, _names(SearchCost))
    numbers = fields.positive("seconds"), fields.integer("candidates", least=0), fields.integer("cores")
    return SearchCost(fields.text("what"), *numbers)


def _network(where: str, content: Any, recipes: Mapping[str, Recipe]) -> MeasuredNetwork:
    fields = _with_defaults(where, content, MeasuredNetwork)
    runs = enumerate(fields.sequence("runs"))
    return MeasuredNetwork(
        name=fields.text("name"),
        chosen_by=fields.text("chosen_by", CHOICES),
        detail=fields.text("detail"),
        compiler=fields.text("compiler"),
        target=_optional(fields, "target", fields.positive),
        speedup=_optional(fields, "speedup", fields.positive),
        ms=_optional(fields, "ms", fields.positive),
        predicted_ms=_optional(fields, "predicted_ms", fields.positive),
        macs=_optional(fields, "macs", fields.integer),
        parameters=_optional(fields, "parameters", fields.integer),
        kl=_optional(fields, "kl", lambda name: _within(fields, name, 0, None)),
        repair_images=_optional(fields, "repair_images", fields.integer),
        before=_optional(fields, "before", lambda name: _within(fields, name, 0, 100)),
        runs=tuple(_run(f"{where}: runs[{number}]", each, recipes) for number, each in runs),
        note=fields.text("note"),
    )


def _run(where: str, content: Any, recipes: Mapping[str, Recipe]) -> Run:
    fields = _with_defaults(where, content, Run)
    return Run(
        fields.text("recipe", recipes),
        _optional(fields, "seed", lambda name: fields.integer(name, least=-(2**63), most=2**63 - 1)),
        _within(fields, "accuracy", 0, 100),
        fields.text("left_out"),
    )


def _with_defaults(where: str, content: Any, kind: type[MeasuredNetwork] | type[Run]) -> Fields:
    """The fields of a content in which those that have a default may be left out."""
    defaults = {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
    }
    return Fields.of(where, {**defaults, **content} if isinstance(content, dict) else content, _names(kind))


def _optional(fields: Fields, name: str, read: Callable[[str], _Value]) -> _Value | None:
    return None if fields.content[name] is None else read(name)


def _within(fields: Fields, name: str, least: float, most: float | None) -> float:
    value = fields.number(name)
    if value < least or (most is not None and value > most):
        fields.wrong(name, f"a number of at least {least}" if most is None else f"a number from {least} to {most}")
    return value


def _mapping(fields: Fields, name: str) -> Mapping[str, Any]:
    value = fields.content[name]
    if not isinstance(value, dict):
        fields.wrong(name, "a dictionary")
    return value


def _texts(fields: Fields, name: str) -> Mapping[str, str]:
    mapping = _mapping(fields, name)
    if not all(isinstance(value, str) for value in mapping.values()):
        fields.wrong(name, "a dictionary of texts")
    return mapping


def _names(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}
