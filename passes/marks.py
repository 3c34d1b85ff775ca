"""The discardable attributes with which the IR itself carries what loopmorph knows of it.

On the outermost loop of a nest (and before that on the linalg op that it came from):
  `morph.layer`    qualified name of the module that it computes, "layer1.0.conv1"; "" for the network's own forward
  `morph.node`     name of the FX node that it computes, "convolution_1"
  `morph.role`     what it does for the layer: "main", or helping: "init" (start value), "pad", "copy",
                   "prologue" (before the main nest: BatchNorm's scale), "epilogue" (after it: a linear layer's bias),
                   "filter-transform", "input-transform", "output-transform" (around Winograd's products),
                   "pack" (a parameter brought into a blocked layout), "expand" (repeats a result that was computed
                   on a coarser grid), "mix", "mix-in" (a contraction over channels, new, after its result or before
                   its input)
On the outermost loop of a contraction's main nest, each optional (see `loopmorph.passes.analysis.choice`):
  `morph.algorithm` how `morph-default-schedule` is to compute it: "direct", "winograd2" or "winograd4"
  `morph.block`    the register block that it is to use, "ROWSxCOLUMNSxBLOCKS": "1x4x4"
  `morph.samples`  how many images a winograd algorithm is to compute at a time: "2", or "all"
On every loop:
  `morph.iter`     the iterator's name: n, co, oh, ow, ci, kh, kw for a convolution
On at most one loop of a nest:
  `morph.parallel` (unit) its iterations may run at the same time
On a function that was made of a nest:
  `morph.kernel`   the layer whose nest it is (the first such layer, where several share it)
On function arguments:
  `morph.param`    qualified name of the parameter, buffer or constant that is passed there
  `morph.inherit`  affine map from an element of the parameter to the element of the imported one that it inherits,
                   or an array of steps to there (see `loopmorph.passes.analysis.coupling.inheritance`)
  `morph.source`   qualified name of the imported parameter that it inherits from, where its own name is another
  `morph.identity` N: it is new, and inherits from the N x N identity matrix instead of an imported parameter
  `morph.input`    position of the network's input that is passed there
  `morph.below`    its elements are indices into so many elements: a caller may pass 0 up to, not including, that
  `morph.output`   position of the network's output that is written there
  `morph.packed`   its number among the memrefs that @prepare writes and @run reads
  `morph.scratch`  (unit) working memory, whose contents mean nothing before and after
  `morph.thread`   (unit) the number of the thread that executes the function, from 0
  `morph.team`     (unit) the address of the state that the threads share
  `morph.clock`    the layers whose beginnings are stored there, in order; then the end
On the module:
  `morph.schedule` the transformations applied so far, as pass texts, in order (see `loopmorph.passes.history`)
"""

from __future__ import annotations

from torch_mlir import ir

LAYER = "morph.layer"
NODE = "morph.node"
ROLE = "morph.role"
ALGORITHM = "morph.algorithm"
BLOCK = "morph.block"
SAMPLES = "morph.samples"
ITER = "morph.iter"
PARALLEL = "morph.parallel"
PARAM = "morph.param"
INHERIT = "morph.inherit"
SOURCE = "morph.source"
IDENTITY = "morph.identity"
INPUT = "morph.input"
BELOW = "morph.below"
OUTPUT = "morph.output"
PACKED = "morph.packed"
SCRATCH = "morph.scratch"
THREAD = "morph.thread"
TEAM = "morph.team"
CLOCK = "morph.clock"
KERNEL = "morph.kernel"
SCHEDULE = "morph.schedule"

# The two functions that `@main` becomes.
PREPARE = "prepare"
RUN = "run"
ALIGNMENT = 64  # bytes: a cache line, and the widest vector; packed memrefs and pieces of the scratch begin there

MAIN = "main"
INIT = "init"
PAD = "pad"
COPY = "copy"
PROLOGUE = "prologue"
EPILOGUE = "epilogue"
FILTER_TRANSFORM = "filter-transform"
INPUT_TRANSFORM = "input-transform"
OUTPUT_TRANSFORM = "output-transform"
PACK = "pack"
MIX = "mix"
MIX_IN = "mix-in"
EXPAND = "expand"

COMPUTING = (MAIN, MIX, MIX_IN)  # the roles of nests that do a layer's work, the others help them


def get_text(op: ir.Operation | ir.OpView, name: str, default: str = "") -> str:
    """The string attribute `name` of `op`, or `default` where it has none."""
    attributes = op.attributes
    return ir.StringAttr(attributes[name]).value if name in attributes else default


def argument_marks(function: ir.Operation | ir.OpView) -> list[dict[str, ir.Attribute]]:
    """The attributes of each argument of a `func.func`, by name."""
    n_args = len(function.regions[0].blocks[0].arguments)
    if "arg_attrs" not in function.attributes:
        return [{} for _ in range(n_args)]
    return [{a.name: a.attr for a in ir.DictAttr(d)} for d in ir.ArrayAttr(function.attributes["arg_attrs"])]


def set_argument_marks(function: ir.Operation | ir.OpView, marks: list[dict[str, ir.Attribute]]) -> None:
    """Writes back what `argument_marks` read."""
    function.attributes["arg_attrs"] = ir.ArrayAttr.get([ir.DictAttr.get(m) for m in marks])


def memref_marks(value: ir.Value) -> dict[str, ir.Attribute]:
    """The marks of a function argument; none for any other value."""
    if not isinstance(value, ir.BlockArgument):
        return {}
    function = value.owner.owner
    if "arg_attrs" not in function.attributes:
        return {}
    mine = ir.ArrayAttr(function.attributes["arg_attrs"])[value.arg_number]
    return {a.name: a.attr for a in ir.DictAttr(mine)}


def set_memref_marks(argument: ir.BlockArgument, mine: dict[str, ir.Attribute]) -> None:
    """Writes back what `memref_marks` read of a function argument."""
    function = argument.owner.owner
    if "arg_attrs" not in function.attributes:
        set_argument_marks(function, argument_marks(function))
    all_marks = list(ir.ArrayAttr(function.attributes["arg_attrs"]))
    all_marks[argument.arg_number] = ir.DictAttr.get(mine)
    function.attributes["arg_attrs"] = ir.ArrayAttr.get(all_marks)


def set_below(argument: ir.BlockArgument, extent: int) -> None:
    """Marks a function's argument: its elements are indices into `extent` elements (the least one counts)."""
    mine = memref_marks(argument)
    known = ir.IntegerAttr(mine[BELOW]).value if BELOW in mine else extent
    mine[BELOW] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), min(known, extent))
    set_memref_marks(argument, mine)


def parameter_name(value: ir.Value) -> str | None:
    """The name of the parameter that a memref is, None for any other memref."""
    attributes = memref_marks(value)
    return ir.StringAttr(attributes[PARAM]).value if PARAM in attributes else None


def recorded_steps(module: ir.Operation) -> list[str]:
    """The transformations applied so far, as pass texts, in order; typed: `loopmorph.passes.history`."""
    if SCHEDULE not in module.attributes:
        return []
    return [ir.StringAttr(a).value for a in ir.ArrayAttr(module.attributes[SCHEDULE])]


def record_steps(module: ir.Operation, *texts: str) -> None:
    """Appends pass texts to what `recorded_steps` returns."""
    if not texts:
        return
    new: list[ir.Attribute] = [ir.StringAttr.get(text, module.context) for text in texts]
    known = SCHEDULE in module.attributes
    module.attributes[SCHEDULE] = (
        ir.ArrayAttr(module.attributes[SCHEDULE]) + new if known else ir.ArrayAttr.get(new, module.context)
    )
