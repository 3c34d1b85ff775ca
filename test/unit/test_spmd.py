"""Compiled code on several threads: equal to PyTorch and to one thread, chunks, barriers, refusals."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch_mlir import ir

import loopmorph as lm
from loopmorph.passes.analysis.memory.slabs import Slabs, chunk_ends
from loopmorph.passes.errors import ArgumentError, IllegalTransform
from loopmorph.passes.loop.parallelize import parallel_loop
from loopmorph.passes.lowering.to_llvm import plan_functions
from loopmorph.passes.nest import nests
from loopmorph.passes.spmd.mark import ParallelizeAll
from loopmorph.passes.spmd.spmd import Spmd
from loopmorph.passes.target.target import GENERIC, named_target
from loopmorph.pipelines.network import copy_module

pytestmark = pytest.mark.usefixtures("context")


class Block(nn.Module):
    """Padding, strides, groups, BatchNorm, a shortcut, a concatenation, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.b = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.c = nn.Conv2d(16, 5, 3, stride=2)
        self.fc = nn.Linear(5, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.a(x)).relu()
        z = torch.cat([y, (self.b(y) + y).relu()], 1)
        z = nn.functional.max_pool2d(self.c(z), 2)
        return self.fc(z.mean((2, 3)))


@pytest.fixture(scope="module")
def block() -> lm.Program:
    torch.manual_seed(0)
    model = Block()
    model.bn.running_var.uniform_(0.5, 2)
    model.bn.running_mean.normal_()
    return lm.import_model(model.eval(), (torch.randn(1, 3, 13, 11),))


@pytest.fixture(scope="module")
def compiled(block: lm.Program) -> Callable[[int], lm.Executable]:
    """The block on so many threads."""
    return functools.cache(lambda threads: lm.compile(block, threads=threads))


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_equals_pytorch_and_one_thread(
    block: lm.Program, compiled: Callable[[int], lm.Executable], threads: int
) -> None:
    (x,) = block.example_inputs
    expected = block.model(x).detach()
    several = compiled(threads)
    first = several(x)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first, compiled(1)(x), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(several(x), first) for _ in range(300))


def test_without_reductions_the_bits_are_those_of_one_thread() -> None:
    class Pointwise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.pad(x, (1, 1, 1, 1))
            return nn.functional.max_pool2d(torch.tanh(y).transpose(1, 3), 3) * 3 + 1

    x = torch.randn(2, 5, 9, 7)
    program = lm.import_model(Pointwise(), (x,))
    expected = lm.compile(program)(x)
    for threads in (2, 3, 4):
        assert torch.equal(lm.compile(program, threads=threads)(x), expected)


def test_a_schedule_that_marks_loops(block: lm.Program) -> None:
    program, (x,) = block, block.example_inputs
    for step in ("morph-parallelize{layer=a iter=oh}", "morph-split{layer=a iter=oh factor=4}"):
        program = program.apply(step)
    assert "morph.parallel" in str(program)
    expected = block.model(x).detach()
    for threads in (1, 3):
        torch.testing.assert_close(lm.compile(program, threads=threads)(x), expected, rtol=1e-4, atol=1e-6)


def test_a_child_process_may_call_what_its_parent_is_in(
    block: lm.Program, compiled: Callable[[int], lm.Executable]
) -> None:
    (x,) = block.example_inputs
    executable = compiled(2)
    expected, stop = executable(x), threading.Event()

    def call() -> None:
        while not stop.is_set():
            executable(x)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if torch.equal(executable(x), expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        caller.join()


def test_a_mark_on_a_single_iteration_counts_for_nothing() -> None:
    text = nest(
        ("i", 8), body="affine.store %v, %y[%i] : memref<8xf32>", name="main", arguments="%v: f32, %y: memref<8xf32>"
    )
    text = text.replace("affine.for %i", "affine.for %n = 0 to 1 { affine.for %i").replace(
        '{morph.iter = "i"}', '{morph.iter = "i"} } {morph.iter = "n", morph.parallel}'
    )
    module = ir.Module.parse(text)
    ParallelizeAll(2).run(module.operation)
    (view,) = nests(module.operation)
    assert [loop.iterator for loop in view.loops if "morph.parallel" in loop.op.attributes] == ["i"]


def test_one_thread_ignores_the_marks(block: lm.Program) -> None:
    def planned(program: lm.Program) -> str:
        module = copy_module(program.module)
        with module.context:
            plan_functions(module, named_target(GENERIC))
        return str(module).partition("{")[2]  # the module's own attributes hold the schedule

    marked = planned(block.apply("morph-parallelize{layer=a iter=co}"))
    assert "morph.thread" not in marked and "morph.barrier" not in marked
    plain = marked.replace(", morph.parallel", "")
    assert _body(plain) == _body(planned(block))


def _body(text: str) -> str:
    return text[text.index("func.func") :]


@pytest.mark.parametrize(("extent", "threads"), [(8, 2), (7, 2), (10, 4), (2, 3), (0, 2)])
def test_chunks_are_balanced(extent: int, threads: int) -> None:
    ends = chunk_ends(extent, threads)
    sizes = [b - a for a, b in pairwise(ends)]
    assert ends[0] == 0 and ends[-1] == extent and max(sizes) - min(sizes) <= 1


def test_slabs_are_apart_only_along_one_axis_and_without_overlap() -> None:
    halves = Slabs(0, ((0, 3), (4, 7)))
    assert halves.apart(halves)
    assert not halves.apart(Slabs(1, ((0, 3), (4, 7))))
    assert not halves.apart(Slabs(0, ((0, 4), (5, 9))))
    assert halves.apart(Slabs(0, ((0, 3), (0, -1))))


def nest(*loops: tuple[str, int], body: str, name: str, arguments: str) -> str:
    opening = "".join(f"affine.for %{it} = 0 to {extent} {{" for it, extent in loops)
    closing = "".join(f'}} {{morph.iter = "{it}"}}' for it, _ in reversed(loops))
    return f"func.func @{name}({arguments}) {{ {opening} {body} {closing} return }}"


@pytest.mark.parametrize(
    ("loops", "threads", "chosen"),
    [
        ((("n", 1), ("co", 64), ("oh", 7)), 2, "co"),
        ((("n", 2), ("co", 64), ("oh", 7)), 2, "n"),
        ((("n", 3), ("co", 64), ("oh", 7)), 2, "co"),
        ((("n", 1), ("co", 7), ("oh", 5)), 2, "co"),
        ((("n", 1), ("co", 19), ("oh", 20)), 2, "co"),  # 19 of 20 is good enough
        ((("n", 1), ("co", 3), ("oh", 1)), 4, "co"),
        ((("n", 1), ("co", 1), ("oh", 1)), 4, None),
    ],
)
def test_the_loop_that_is_chosen(loops: tuple[tuple[str, int], ...], threads: int, chosen: str | None) -> None:
    shape = "x".join(str(extent) for _, extent in loops)
    store = f"affine.store %v, %y[%n, %co, %oh] : memref<{shape}xf32>"
    text = nest(*loops, body=store, name="main", arguments=f"%v: f32, %y: memref<{shape}xf32>")
    module = ir.Module.parse(text)
    ParallelizeAll(threads).run(module.operation)
    (view,) = nests(module.operation)
    loop = parallel_loop(view)
    assert (loop and loop.iterator) == chosen


def test_a_reduction_is_not_chosen() -> None:
    body = """%a = affine.load %x[%i] : memref<8xf32>
      %b = affine.load %y[0] : memref<1xf32>
      %s = arith.addf %a, %b : f32
      affine.store %s, %y[0] : memref<1xf32>"""
    text = nest(("i", 8), body=body, name="main", arguments="%x: memref<8xf32>, %y: memref<1xf32>")
    module = ir.Module.parse(text)
    ParallelizeAll(2).run(module.operation)
    assert "morph.parallel" not in str(module)


def test_a_mark_that_a_transformation_has_made_wrong_is_refused() -> None:
    body = """%a = affine.load %x[%i] : memref<9xf32>
      affine.store %a, %x[%i + 1] : memref<9xf32>"""
    text = nest(("i", 8), body=body, name="main", arguments="%x: memref<9xf32>")
    module = ir.Module.parse(text.replace('"i"}', '"i", morph.parallel, morph.layer = "net"}'))
    with pytest.raises(IllegalTransform, match="layer 'net': 'i' cannot run in parallel: the flow dependence"):
        ParallelizeAll(2).run(module.operation)


HALO = """
func.func @run(%x: memref<8xf32> {{morph.input = 0}}, %t: memref<10xf32>, %y: memref<8xf32> {{morph.output = 0}}) {{
  affine.for %i = 0 to 8 {{
    %a = affine.load %x[%i] : memref<8xf32>
    affine.store %a, %t[%i + {first}] : memref<10xf32>
  }} {{morph.parallel}}
  affine.for %i = 0 to 8 {{
    %a = affine.load %t[%i + {second}] : memref<10xf32>
    affine.store %a, %y[%i] : memref<8xf32>
  }} {{morph.parallel}}
  return
}}"""


@pytest.mark.parametrize(("first", "second", "barriers"), [(1, 1, 0), (0, 1, 1), (2, 1, 1)])
def test_a_barrier_where_threads_read_what_others_wrote(first: int, second: int, barriers: int) -> None:
    module = ir.Module.parse(HALO.format(first=first, second=second))
    Spmd(2).run(module.operation)
    assert module.operation.verify()
    assert str(module).count("llvm.call @morph.barrier") == barriers


def test_memory_that_is_used_again_needs_a_barrier() -> None:
    module = ir.Module.parse("""
    func.func @run(%x: memref<8xf32>, %s: memref<128xi8>, %y: memref<8xf32>, %z: memref<8xf32>) {
      %a = arith.constant 0 : index
      %b = arith.constant 32 : index
      %t = memref.view %s[%a][] : memref<128xi8> to memref<8xf32>
      %u = memref.view %s[%b][] : memref<128xi8> to memref<8xf32>
      %v = memref.view %s[%a][] : memref<128xi8> to memref<8xf32>
      affine.for %i = 0 to 8 {
        %0 = affine.load %x[%i] : memref<8xf32>
        affine.store %0, %t[%i] : memref<8xf32>
      } {morph.parallel}
      affine.for %i = 0 to 8 {
        %0 = affine.load %x[7 - %i] : memref<8xf32>
        affine.store %0, %u[%i] : memref<8xf32>
      } {morph.parallel}
      affine.for %i = 0 to 8 {
        %0 = affine.load %x[%i] : memref<8xf32>
        affine.store %0, %v[%i] : memref<8xf32>
      } {morph.parallel}
      return
    }""")
    Spmd(2).run(module.operation)
    text = str(module)
    assert text.count("llvm.call @morph.barrier") == 1
    after = text[text.index("llvm.call @morph.barrier(%arg") :]
    assert after.count("affine.for") == 1


def test_what_stands_outside_nests() -> None:
    """Loads are for every thread, stores for the first."""
    module = ir.Module.parse("""
    func.func @run(%x: memref<8xf32>, %y: memref<1xf32>) {
      %0 = affine.load %y[0] : memref<1xf32>
      %1 = affine.for %i = 0 to 8 iter_args(%s = %0) -> (f32) {
        %a = affine.load %x[%i] : memref<8xf32>
        %b = arith.addf %a, %s : f32
        affine.yield %b : f32
      }
      affine.store %1, %y[0] : memref<1xf32>
      return
    }""")
    Spmd(2).run(module.operation)
    assert module.operation.verify()
    text = str(module)
    assert text.index("affine.for") < text.index("llvm.call @morph.barrier(%arg") < text.index("scf.if")
    assert text.index("scf.if") < text.index("affine.store")


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="argument 'threads': expected at least 2, got 1"):
        Spmd(1)
    with pytest.raises(ArgumentError, match="argument 'threads': expected a positive number, got 0"):
        ParallelizeAll(0)
    with pytest.raises(IllegalTransform, match="module: morph-spmd needs a function @run"):
        Spmd(2).run(ir.Module.parse("func.func @main() { return }").operation)
    module = ir.Module.parse("func.func @run() { %0 = memref.alloc() : memref<4xf32> return }")
    with pytest.raises(IllegalTransform, match=r"memref.alloc at .*: it cannot be divided among threads"):
        Spmd(2).run(module.operation)
