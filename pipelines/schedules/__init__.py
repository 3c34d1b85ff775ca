"""Named operators as schedules: `.mlir` files of `morph` operations with parameters."""

from loopmorph.pipelines.schedules.loader import (
    Parameter,
    Schedule,
    fill,
    find_schedule,
    load_schedule,
    read_schedule,
    schedules,
)

__all__ = ["Parameter", "Schedule", "fill", "find_schedule", "load_schedule", "read_schedule", "schedules"]
