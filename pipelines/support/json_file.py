"""Files of JSON that a user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loopmorph.passes.errors import DataError


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # of encoding and syntax; of what is nested too deeply
        raise DataError(f"{path}: is no JSON: {error}") from error
