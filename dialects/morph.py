"""The `morph` transform dialect: the transformations as operations of a schedule.

For every registered `Transformation` called `morph-NAME` there is an operation `morph.NAME` (other names keep their
words; each '-' becomes '_') with the same options as attributes:

    %changed, %nest = "morph.split"(%module) {layer = "conv1", iter = "ow", factor = 4 : i64, morph.kind = "loop"}
        : (!transform.any_op) -> (!transform.any_op, !transform.any_op)

It consumes a handle to the `builtin.module` and yields the module, for the next step, and the outermost loop of the
nest that changed, for upstream operations such as `transform.loop.unroll`. Consuming the module invalidates every
older handle into it, so the interpreter reports the use of a stale one. Options: `int` is an integer attribute,
`str` a string, `bool` a bool, a list an array (`["co", "ci"]`, `[4, 4]` or `array<i64: 4, 4>`). Attributes whose
names begin with `morph.` are annotations; `morph.kind`, where present, must be the kind of the transformation.
"""

from loopmorph.dialects.morph_ops import dialect, load, operation_name
from loopmorph.dialects.morph_schedule import apply_schedule, parse_schedule, schedule_steps, schedule_text

__all__ = ["apply_schedule", "dialect", "load", "operation_name", "parse_schedule", "schedule_steps", "schedule_text"]
