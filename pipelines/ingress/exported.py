"""Exported programs (`.pt2`), looked through before PyTorch's loader sees them, which runs what it finds there.

PyTorch's loader falls back to plain pickle, evaluates size expressions, executes guards, calls whatever a node names
and opens shared libraries. So what is handed to it is a new archive with the program alone, in which every operator is
a registered one, every name is a name, and every pickle is read by `weights_only`.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch.export import ExportedProgram

from loopmorph.pipelines.ingress.exported_graph import Untrusted, check_graph, check_payload
from loopmorph.pipelines.ingress.quiet import quiet_torch
from loopmorph.pipelines.support.archives import check_unpacked

_GRAPH = "models/model.json"
_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_KEPT = ("archive_format", "archive_version", "byteorder", ".data/version", _GRAPH, _INPUTS)
_KEPT_FOLDERS = ("data/weights/", "data/constants/")
_FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # PyTorch's own switch: torch.load never runs a pickle's code


def load_exported(path: str, *, trust: bool = False) -> ExportedProgram:
    """Reads an exported program.

    Args:
        path: a file that `torch.export.save` wrote.
        trust: whether to leave all to PyTorch's loader, which runs code that the file holds.

    Raises:
        Untrusted: the file holds what could run code; the message says what. Nothing of it has been run then.
        TooLarge: it unpacks to more than is read. (Both only where it is not trusted.)
        Exception: a damaged file, or none that `torch.export.save` wrote.
    """
    if trust:
        with quiet_torch():
            return torch.export.load(path)
    with zipfile.ZipFile(path) as archive:
        check_unpacked(archive)
        members = _members(archive)
    _check(members)
    with quiet_torch(), _weights_only():
        return torch.export.load(io.BytesIO(_packed(members)))


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """What a program is made of, without compiled code and extra files: name below the root -> content."""
    found: dict[str, bytes] = {}
    for member in archive.infolist():
        name = member.filename.partition("/")[2]
        if name not in _KEPT and not name.startswith(_KEPT_FOLDERS):
            continue
        if name in found:
            raise Untrusted(f"it holds '{name}' twice")
        found[name] = archive.read(member)
    missing = [name for name in (_GRAPH, _INPUTS, *_PAYLOADS) if name not in found]
    if missing and "version" in archive.namelist():
        raise Untrusted("it is of the form that PyTorch wrote before 2.8, which is not looked through")
    if missing:
        raise ValueError(f"it has no '{missing[0]}'")
    return found


def _check(members: dict[str, bytes]) -> None:
    graph = json.loads(members[_GRAPH])
    check_graph(graph)
    graph["guards_code"] = []  # Python code, about shapes that a program with example inputs has
    members[_GRAPH] = json.dumps(graph).encode()
    for name in _PAYLOADS:
        check_payload(json.loads(members[name]))
    for name, content in members.items():
        if name.endswith(".pt") and content:
            _check_pickle(name, content)


def _check_pickle(name: str, content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            check_unpacked(inner)
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a forged pickle may make the loader raise anything
        reason = str(error).strip().splitlines()
        shown = next((line.strip() for line in reason if "nsupported" in line), reason[0] if reason else "")
        raise Untrusted(f"'{name}' is a pickle that could run code: {shown[:200]}") from error


def _packed(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()


@contextmanager
def _weights_only() -> Iterator[None]:
    before = os.environ.get(_FORCE_WEIGHTS_ONLY)
    os.environ[_FORCE_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE_WEIGHTS_ONLY]
        else:
            os.environ[_FORCE_WEIGHTS_ONLY] = before
