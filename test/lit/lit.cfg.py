"""lit configuration: works from a clean environment that has the Python dependencies and nothing else.

Environment variables: FILECHECK names another FileCheck than the `filecheck` package.
"""

import importlib.util
import os
import sys
from pathlib import Path

import lit.formats

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test" / "plugin"), str(ROOT / "test" / "preloaded")]
import preloaded  # noqa: E402
from expose import expose  # noqa: E402

config.name = "loopmorph"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".py", ".test"]
config.excludes = ["lit.cfg.py", "Inputs"]
config.test_source_root = str(ROOT / "test" / "lit")
config.test_exec_root = os.environ.get("LOOPMORPH_LIT_OUT", str(ROOT / "build" / "lit"))

# Seconds; the option has moved from one object to the other between versions of lit.
(config if hasattr(config, "maxIndividualTestTime") else lit_config).maxIndividualTestTime = 120

# The checkout comes first, so that its code is tested whatever is installed; the test plug-in is always visible.
metadata = Path(config.test_exec_root) / "plugin-metadata"
search_path = os.pathsep.join(filter(None, [str(ROOT), *expose(metadata), os.environ.get("PYTHONPATH", "")]))
config.environment["PYTHONPATH"] = search_path
config.environment["OMP_NUM_THREADS"] = "1"

# What the tests start most is forked from a process that has loaded it. That each starts by itself, too, is seen in
# test/lit/tools/start.mlir.
loaded = ["loopmorph.tools.opt", "loopmorph.passes.registry:all_passes", "filecheck.main"]
socket = preloaded.begin(loaded, {"PYTHONPATH": search_path, "OMP_NUM_THREADS": "1"})
client = f'"{sys.executable}" -S -E "{ROOT}/test/preloaded/client.py" "{socket}"'

# Said again for each command: lit's own `cat` replaces the path for all that follow it in a pipe.
environment = f'env PYTHONPATH="{search_path}"'
python = f'{environment} "{sys.executable}"'
filecheck = os.environ.get("FILECHECK") or f"{environment} {client} filecheck"
config.substitutions += [
    # `loopmorph` must not match inside paths and module names, nor `loopmorph-opt` as `loopmorph`.
    (r"(?<![\w./-])loopmorph-opt(?![\w./-])", f"{environment} {client} loopmorph.tools.opt"),
    (r"(?<![\w./-])loopmorph(?![\w./-])", f"{python} -m loopmorph.tools.cli"),
    (r"(?<![\w./-])FileCheck(?![\w./-])", filecheck),
    ("%python", python),
]

for module in ("torch", "torch_mlir", "islpy", "openvino", "onnxruntime"):
    if importlib.util.find_spec(module):
        config.available_features.add(module)
