"""`morph-print-polyhedral`: nests as sets, relations and schedule trees, in isl's notation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

from torch_mlir import ir

from loopmorph.passes.analysis.polyhedral.text import polyhedral_text
from loopmorph.passes.base import Pass


@dataclass(frozen=True)
class PrintPolyhedral(Pass):
    """Writes the polyhedral view of each nest to the standard output, as comments; the program stays as it is.

    Without the `// ` it is a YAML stream, one document a nest, with values that isl reads; `loopmorph-opt --polyhedral`
    prints that alone. For a matrix product:

        // ---
        // nest: "fc"
        // function: "main"
        // memrefs:
        //   input0: "memref<1x64xf32>"
        //   ...
        // domain: |
        //   { fc_main_S0[n = 0, co, ci] : 0 <= co <= 9 and 0 <= ci <= 63 }
        // reads: |
        //   { fc_main_S0[n, co, ci] -> input0[n, ci];
        //     fc_main_S0[n, co, ci] -> fc_weight[co, ci];
        //     fc_main_S0[n, co, ci] -> output0[n, co] }
        // writes: |
        //   { fc_main_S0[n, co, ci] -> output0[n, co] }
        // flow: |
        //   { fc_main_S0[n = 0, co, ci] -> fc_main_S0[n' = 0, co' = co, ci' = 1 + ci] : ... }
        // ...
        // schedule: |
        //   domain: "{ fc_main_S0[n = 0, co, ci] : 0 <= co <= 9 and 0 <= ci <= 63 }"
        //   child:
        //     schedule: "[{ fc_main_S0[n, co, ci] -> [(n)] }, { fc_main_S0[n, co, ci] -> [(co)] }, ...]"
        //     permutable: 1
        //     coincident: [ 1, 1, 0 ]

    A statement is a stretch of operations that ends with a store; what one leaves in registers for another is shown
    as a memref of its own. Dependences are direct ones, from which all others follow; `reduction` are those that a
    reduction admits in any order, which `permutable` therefore does not count and `coincident` does.

    A nest that isl cannot express is there with the reason, in `refused`; operations outside of nests are named.

    Requires a nest.
    """

    name: ClassVar[str] = "morph-print-polyhedral"

    def run(self, module: ir.Operation) -> None:
        sys.stdout.write("".join(f"// {line}\n" for line in polyhedral_text(module).splitlines()))
