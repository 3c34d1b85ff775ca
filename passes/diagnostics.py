"""MLIR's diagnostics as text of one line."""

from __future__ import annotations

from torch_mlir import ir

from loopmorph.passes.errors import IllegalTransform, one_line

UNKNOWN = "unknown location"


def location_text(location: ir.Location) -> str:
    """`file:line:column`, `module.path at file:line:column`, or the name alone; `UNKNOWN` where there is neither."""
    place = file_location(location)
    name = location_name(location).removesuffix("@")
    if place is None:
        return name or UNKNOWN
    position = f"{place.filename}:{place.start_line}:{place.start_col}"
    return f"{name} at {position}" if name else position


def file_location(location: ir.Location) -> ir.FileLineColLoc | None:
    """The first place in a file that `location` holds; MLIR's line 0 of a module without a place counts as none."""
    location = _typed(location)
    if isinstance(location, ir.FileLineColLoc):
        return location if location.start_line > 0 else None
    return next((found for child in _children(location) if (found := file_location(child))), None)


def location_name(location: ir.Location) -> str:
    """The first name that `location` holds; empty where it holds none."""
    location = _typed(location)
    if isinstance(location, ir.NameLoc):
        return str(location.name_str)
    return next((found for child in _children(location) if (found := location_name(child))), "")


def illegal(error: ir.MLIRError) -> IllegalTransform:
    """What a failed pass, parser or verifier reported first, as one of loopmorph's own errors."""
    diagnostics = list(error.error_diagnostics)
    if not diagnostics:
        return IllegalTransform(UNKNOWN, one_line(str(error)))
    return IllegalTransform(location_text(diagnostics[0].location), one_line(diagnostics[0].message))


def _typed(location: ir.Location) -> ir.Location:
    """Diagnostics carry locations of the base class only."""
    return ir.Location.from_attr(location.attr, context=location.context)


def _children(location: ir.Location) -> list[ir.Location]:
    if isinstance(location, ir.NameLoc):
        return [location.child_loc]
    if isinstance(location, ir.FusedLoc):
        return list(location.locations)
    if isinstance(location, ir.CallSiteLoc):
        return [location.callee]
    return []
