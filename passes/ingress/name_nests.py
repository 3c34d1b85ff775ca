"""`morph-name-nests`: addresses for the nests of a program that nobody here imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.base import Pass
from loopmorph.passes.building.name_nests import name_nests


@dataclass(frozen=True)
class NameNests(Pass):
    """Gives nests, and linalg operations that become nests, the names by which the other passes find them.

    The layer is what `morph.layer` says already; else the name in the operation's location; else the operation's name
    and number. The names of iterators come from what they index (see `loopmorph.passes.analysis.iterator_names`).
    What has a name keeps it. `morph-linalg-to-affine` begins with it, and so does a transformation whose `layer` is
    not to be found.

        affine.for %i = 0 to 8 {                     affine.for %i = 0 to 8 {
          affine.for %j = 0 to 4 {                     affine.for %j = 0 to 4 {
            affine.for %k = 0 to 6 {                     affine.for %k = 0 to 6 {
              ... %A[%i, %k] * %B[%k, %j] ...   =>         ...
            }                                            } {morph.iter = "ci"}
          }                                            } {morph.iter = "co"}
        }                                            } {morph.iter = "n", morph.layer = "for.0"}
    """

    name: ClassVar[str] = "morph-name-nests"

    def run(self, module: ir.Operation) -> None:
        name_nests(module)
