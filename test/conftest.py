"""What holds for all tests."""

from __future__ import annotations

import os

os.environ.setdefault(
    "LOOPMORPH_CODE_CACHE", "0"
)  # what is tested is what this checkout compiles, not what it has kept
