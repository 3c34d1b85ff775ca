"""`loopmorph-opt`, where what it takes is installed; else one line that says what is missing."""

from __future__ import annotations

import sys

from loopmorph.passes.errors import MissingPackage
from loopmorph.pipelines.support.extras import needs_mlir


def main() -> int:
    """Runs `loopmorph-opt`; returns its exit code."""
    try:
        with needs_mlir("loopmorph-opt"):
            from loopmorph.tools.opt import main as run
    except MissingPackage as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return run()
