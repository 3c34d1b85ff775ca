"""Small nests for the polyhedral view, and a reader of what it prints that knows nothing of how it is made."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

import islpy as isl
from loop_programs import convolution, diagonal, program, triangle, wavefront
from torch_mlir import ir

from loopmorph.passes.analysis.polyhedral.text import polyhedral_text

MATMUL = program(
    {"m": 4, "n": 5, "k": 6},
    """%a = affine.load %x[%m, %k] : {x}
    %b = affine.load %w[%k, %n] : {w}
    %c = affine.load %y[%m, %n] : {y}
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    affine.store %s, %y[%m, %n] : {y}""",
    {"x": (4, 6), "w": (6, 5), "y": (4, 5)},
).text

# A window that stays within the data: bounds of several expressions.
PADDED = program(
    {"oh": 5, "kh": "max affine_map<(d0) -> (0, 1 - d0)>(%oh) to min affine_map<(d0) -> (3, 6 - d0)>(%oh)"},
    """%a = affine.load %x[%oh + %kh - 1] : {x}
    %b = affine.load %w[%kh] : {w}
    %c = affine.load %y[%oh] : {y}
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    affine.store %s, %y[%oh] : {y}""",
    {"x": (5,), "w": (3,), "y": (5,)},
).text

# The same, by a guard; where the window leaves the data, zero is stored.
GUARDED = program(
    {"oh": 5, "kh": 3},
    """affine.if affine_set<(d0, d1)[s0] : (d0 + d1 - 1 >= 0, s0 - d0 - d1 >= 0)>(%oh, %kh)[%five] {{
      %a = affine.load %x[%oh + %kh - 1] : {x}
      affine.store %a, %y[%oh, %kh] : {y}
    }} else {{
      affine.store %zero, %y[%oh, %kh] : {y}
    }}""",
    {"x": (5,), "y": (5, 3)},
).text.replace("{\n", "{ %zero = arith.constant 0.0 : f32\n%five = arith.constant 5 : index\n", 1)

# Tiles of four of ten rows and of two of six columns, by steps.
TILED = program(
    {
        "i.0": "0 to 10 step 4",
        "j.0": "0 to 6 step 2",
        "i.1": "affine_map<(d0) -> (d0)>(%i_0) to min affine_map<(d0) -> (d0 + 4, 10)>(%i_0)",
        "j.1": "affine_map<(d0) -> (d0)>(%j_0) to affine_map<(d0) -> (d0 + 2)>(%j_0)",
    },
    """%a = affine.load %x[%i_1, %j_1] : {x}
    affine.store %a, %y[%j_1, %i_1] : {y}""",
    {"x": (10, 6), "y": (6, 10)},
).text
TILED = re.sub(r"%([ij])\.([01])", r"%\1_\2", TILED)

# Three statements: a start value, a sum, and what is made of the sum.
FUSED = """func.func @main(%x: memref<4x3xf32>, %y: memref<4xf32>) {
  %zero = arith.constant 0.0 : f32
  affine.for %i = 0 to 4 {
    affine.store %zero, %y[%i] : memref<4xf32>
    affine.for %j = 0 to 3 {
      %a = affine.load %x[%i, %j] : memref<4x3xf32>
      %b = affine.load %y[%i] : memref<4xf32>
      %s = arith.addf %a, %b : f32
      affine.store %s, %y[%i] : memref<4xf32>
    } {morph.iter = "j"}
    %b = affine.load %y[%i] : memref<4xf32>
    %r = arith.mulf %b, %b : f32
    affine.store %r, %y[%i] : memref<4xf32>
  } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
  return
}"""

# The sum is carried in a register, `%w` is loaded before one loop and used in it.
REGISTERS = """func.func @main(%x: memref<4x6xf32>, %w: memref<4xf32>, %y: memref<4xf32>) {
  affine.for %i = 0 to 4 {
    %w0 = affine.load %w[%i] : memref<4xf32>
    %a = affine.load %y[%i] : memref<4xf32>
    %r = affine.for %j = 0 to 6 step 2 iter_args(%acc = %a) -> f32 {
      %v = affine.load %x[%i, %j] : memref<4x6xf32>
      %p = arith.mulf %v, %w0 : f32
      %s = arith.addf %acc, %p : f32
      affine.yield %s : f32
    } {morph.iter = "j"}
    affine.store %r, %y[%i] : memref<4xf32>
  } {morph.iter = "i", morph.layer = "net", morph.role = "main", morph.parallel}
  return
}"""

# A loop in a branch, with a branch in it.
BRANCHES = """func.func @main(%x: memref<4x6xf32>, %y: memref<4xf32>) {
  affine.for %i = 0 to 4 {
    affine.if affine_set<(d0) : (d0 mod 2 == 0, 2 - d0 >= 0)>(%i) {
      affine.for %j = 0 to 6 {
        affine.if affine_set<(d0, d1) : (d0 floordiv 2 - d1 >= 0)>(%j, %i) {
          %v = affine.load %x[%i, %j] : memref<4x6xf32>
          affine.store %v, %y[%i] : memref<4xf32>
        }
      } {morph.iter = "j"}
    } else {
      %v = affine.load %y[%i - 1] : memref<4xf32>
      affine.store %v, %y[%i] : memref<4xf32>
    }
  } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
  return
}"""

# Two loops carry sums; what the inner one gives, the outer one takes an iteration later.
NESTED_REGISTERS = """func.func @main(%x: memref<4x6xf32>) {
  %z = arith.constant 0.0 : f32
  %r:2 = affine.for %i = 0 to 4 iter_args(%a = %z, %b = %z) -> (f32, f32) {
    %s = affine.for %j = 0 to 6 iter_args(%c = %a) -> f32 {
      %v = affine.load %x[%i, %j] : memref<4x6xf32>
      %t = arith.addf %c, %v : f32
      affine.yield %t : f32
    } {morph.iter = "j"}
    affine.yield %b, %s : f32, f32
  } {morph.iter = "i", morph.layer = "net", morph.role = "main"}
  return
}"""

PROGRAMS = {
    "branches": BRANCHES,
    "matmul": MATMUL,
    "convolution": convolution(2, 3, 2, 2, 2).text,
    "diagonal": diagonal(4).text,
    "fused": FUSED,
    "guarded": GUARDED,
    "padded": PADDED,
    "tiled": TILED,
    "triangle": triangle(4).text,
    "wavefront": wavefront(5).text,
}


@dataclass
class Printed:
    """One document, read back."""

    fields: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    @property
    def domain(self) -> isl.UnionSet:
        return isl.UnionSet(self.fields["domain"])

    @property
    def schedule(self) -> isl.Schedule:
        return isl.Schedule(self.fields["schedule"])

    def relation(self, key: str) -> isl.UnionMap:
        return isl.UnionMap(self.fields[key])


def read(text: str) -> list[Printed]:
    """The documents of a YAML stream of the few forms that the view has."""
    documents: list[Printed] = []
    key = ""
    for line in text.splitlines():
        if line == "---":
            documents.append(Printed())
        elif line.startswith("#"):
            documents[-1].comments.append(line)
        elif line.startswith("  "):
            documents[-1].fields[key] += line.removeprefix("  ") + "\n"
        else:
            key, _, value = line.partition(":")
            documents[-1].fields[key] = json.loads(value) if value.startswith(' "') else ""
    return documents


def pairs(relation: isl.UnionMap) -> set[tuple[str, str]]:
    """The pairs of a relation, as texts."""
    found: set[tuple[str, str]] = set()

    def visit(point: isl.Point) -> None:
        map_ = isl.Set.from_point(point).unwrap()
        found.add((str(map_.domain().sample_point()), str(map_.range().sample_point())))

    relation.wrap().foreach_point(visit)
    return found


def printed(text: str) -> Printed:
    """What is printed of a program of one nest."""
    (document,) = read(polyhedral_text(ir.Module.parse(text).operation))
    return document


def count(union_set: isl.UnionSet) -> int:
    """How many points all the sets have."""
    sets = union_set.get_set_list()
    return sum(sets.get_at(k).count_val().to_python() for k in range(sets.n_set()))


def bands(node: isl.ScheduleNode) -> list[tuple[bool, list[bool]]]:
    """Permutable and coincident of the bands, outermost first."""
    found = []
    if node.get_type() == isl.schedule_node_type.band:
        members = range(node.band_n_member())
        found.append((bool(node.band_get_permutable()), [bool(node.band_member_get_coincident(k)) for k in members]))
    return found + [band for k in range(node.n_children()) for band in bands(node.child(k))]
