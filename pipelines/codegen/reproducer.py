"""A wrong result in files: the network, the inputs, and the script that shows it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from loopmorph.pipelines.codegen.executable import Executable
from loopmorph.pipelines.ingress.quiet import quiet_torch
from loopmorph.pipelines.support.probes import Probe

_SCRIPT = '''"""{text}

Besides this file: model.pt2, the network with its weights and the inputs, and perhaps schedule.txt.
torch {torch}, target {target}.
"""

from pathlib import Path

import torch

import loopmorph as lm

folder = Path(__file__).parent
exported = torch.export.load(folder / "model.pt2")
args, kwargs = exported.example_inputs
schedule = folder / "schedule.txt"
lm.compile(
    exported.module(),
    args,
    example_kwargs=kwargs,
    threads={threads},
    schedule=schedule.read_text() if schedule.exists() else None,
    target={target!r},
)
print("no difference")
'''


def write_reproducer(executable: Executable, probe: Probe, text: str) -> str:
    """Writes a new folder below the one for temporary files, which only the user can read.

    Args:
        executable: the code that is wrong.
        probe: the inputs on which it is.
        text: what is wrong.

    Returns:
        The path of the script in it.
    """
    program = executable.program
    folder = Path(tempfile.mkdtemp(prefix="loopmorph-wrong-"))
    args, kwargs = program.arguments(probe.tensors)
    with quiet_torch(), torch.no_grad():
        exported = torch.export.export(program.model, args, kwargs, strict=False)
        torch.export.save(exported, folder / "model.pt2")
    if program.steps:
        (folder / "schedule.txt").write_text(",".join(program.steps))
    script = folder / "reproduce.py"
    about = {"torch": torch.__version__, "target": str(executable.target), "threads": executable.threads}
    script.write_text(_SCRIPT.format(text=text.replace("\\\\", "/").replace('"""', "'''"), **about))
    return str(script)
