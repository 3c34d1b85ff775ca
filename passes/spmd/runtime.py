"""What compiled threads say to each other: the shared state and the code that reads and writes it.

All of it is in MLIR's LLVM dialect, so that no C compiler and no thread library is needed. The state is a block of
`STATE_BYTES` bytes; what different threads write lies 128 bytes apart, as processors fetch cache lines in pairs.
"""

from __future__ import annotations

GENERATION = 0  # i32: number of the present job; workers wait for it to change
SLEEPERS = 128  # i32: workers that wait in the kernel
DONE = 256  # i64: how many times a worker has finished a job
ARRIVED = 384  # i64: how many times a thread has come to a barrier
RELEASED = 512  # i64: how many times a barrier has let all threads through, times the number of threads
CODE = 640  # pointer: the job's function of an array of pointers to its arguments; null ends a worker
ARGUMENTS = 648  # pointer: thread 0's array of arguments
STRIDE = 656  # i64: bytes from one thread's array to the next one's
THREADS = 664  # i64: number of threads, the calling one included
WAIT_SPINS = 672  # i64: how often a waiting thread looks before it offers its core to other work each time
IDLE_OFFERS = 680  # i64: how often a worker then offers its core before it sleeps
STATE_BYTES = 768

_PLACES = {
    "generation": GENERATION,
    "sleepers": SLEEPERS,
    "done": DONE,
    "code": CODE,
    "arguments": ARGUMENTS,
    "stride": STRIDE,
    "threads": THREADS,
    "wait_spins": WAIT_SPINS,
    "idle_offers": IDLE_OFFERS,
}

BARRIER = "morph.barrier"
DISPATCH = "morph_dispatch"
WORK = "morph_work"
SPIN = "morph_spin"
# The engine hands out a function of this prefix as it is, without a wrapper that takes an array of arguments.
PREFIX = "_mlir_ciface_"

# The instruction that tells the processor of a waiting loop, and the number of Linux's `futex` call.
_MACHINES = {"x86_64": ("pause", 202), "aarch64": ("yield", 98)}


def barrier_text(threads: int, arch: str) -> str:
    """`@morph.barrier(%state: i64)`: returns when `threads` threads have called it, all with one state's address.

    Args:
        threads: number of threads.
        arch: the instruction set (see `Target.arch`).
    """
    return f"""{_wait_text(arch)}
llvm.func @{BARRIER}(%address: i64) attributes {{no_inline}} {{
  %state = llvm.inttoptr %address : i64 to !llvm.ptr
  %one = llvm.mlir.constant(1 : i64) : i64
  %n = llvm.mlir.constant({threads} : i64) : i64
  %arrived = llvm.getelementptr %state[{ARRIVED}] : (!llvm.ptr) -> !llvm.ptr, i8
  %released = llvm.getelementptr %state[{RELEASED}] : (!llvm.ptr) -> !llvm.ptr, i8
  %spins_at = llvm.getelementptr %state[{WAIT_SPINS}] : (!llvm.ptr) -> !llvm.ptr, i8
  %before = llvm.atomicrmw add %arrived, %one acq_rel : !llvm.ptr, i64
  %mine = llvm.add %before, %one : i64
  %round = llvm.udiv %before, %n : i64
  %next = llvm.add %round, %one : i64
  %target = llvm.mul %next, %n : i64
  %last = llvm.icmp "eq" %mine, %target : i64
  llvm.cond_br %last, ^open, ^wait
^open:
  llvm.store %target, %released atomic release {{alignment = 8 : i64}} : i64, !llvm.ptr
  llvm.return
^wait:
  %spins = llvm.load %spins_at : !llvm.ptr -> i64
  llvm.call @morph.wait(%released, %target, %spins) : (!llvm.ptr, i64, i64) -> ()
  llvm.return
}}
"""


def pool_text(arch: str, prefix: str = PREFIX) -> str:
    """The functions of a pool of threads, on Linux; their names begin with the prefix.

    `morph_dispatch(state)` runs the state's job as thread 0 and returns when all threads have (a null job: ends
    the workers and returns at once); `morph_work(state, thread, generation)` is a worker's life; `morph_spin(count)`
    looks at memory `count` times, to be timed.
    """
    _, futex = _MACHINES[arch]
    return f"""{_wait_text(arch)}
llvm.func @syscall(i64, ...) -> i64
llvm.func @{prefix}{SPIN}(%count: i64) {{
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  %cell = llvm.alloca %one x i64 : (i64) -> !llvm.ptr
  llvm.store %zero, %cell : i64, !llvm.ptr
  llvm.br ^look(%zero : i64)
^look(%n: i64):
  %value = llvm.load %cell atomic acquire {{alignment = 8 : i64}} : !llvm.ptr -> i64
  %next = llvm.add %n, %one : i64
  {_pause(arch)}
  %more = llvm.icmp "ult" %next, %count : i64
  llvm.cond_br %more, ^look(%next : i64), ^end
^end:
  llvm.return
}}
llvm.func @{prefix}{DISPATCH}(%address: i64) {{
  %state = llvm.inttoptr %address : i64 to !llvm.ptr
  %zero = llvm.mlir.constant(0 : i32) : i32
  %one = llvm.mlir.constant(1 : i32) : i32
  %one64 = llvm.mlir.constant(1 : i64) : i64
  {_fields("generation sleepers done code arguments threads wait_spins")}
  %code = llvm.load %code_at : !llvm.ptr -> !llvm.ptr
  %arguments = llvm.load %arguments_at : !llvm.ptr -> !llvm.ptr
  %threads = llvm.load %threads_at : !llvm.ptr -> i64
  %spins = llvm.load %wait_spins_at : !llvm.ptr -> i64
  %before = llvm.load %done_at atomic monotonic {{alignment = 8 : i64}} : !llvm.ptr -> i64
  %workers = llvm.sub %threads, %one64 : i64
  %target = llvm.add %before, %workers : i64
  %old = llvm.atomicrmw add %generation_at, %one seq_cst : !llvm.ptr, i32
  %asleep = llvm.load %sleepers_at atomic seq_cst {{alignment = 4 : i64}} : !llvm.ptr -> i32
  %wake = llvm.icmp "ne" %asleep, %zero : i32
  llvm.cond_br %wake, ^wake, ^run
^wake:
  %number = llvm.mlir.constant({futex} : i64) : i64
  %operation = llvm.mlir.constant(129 : i64) : i64
  %all = llvm.mlir.constant(2147483647 : i64) : i64
  %woken = llvm.call @syscall(%number, %generation_at, %operation, %all)
    vararg(!llvm.func<i64 (i64, ...)>) : (i64, !llvm.ptr, i64, i64) -> i64
  llvm.br ^run
^run:
  %null = llvm.mlir.zero : !llvm.ptr
  %stop = llvm.icmp "eq" %code, %null : !llvm.ptr
  llvm.cond_br %stop, ^end, ^call
^call:
  llvm.call %code(%arguments) : !llvm.ptr, (!llvm.ptr) -> ()
  llvm.call @morph.wait(%done_at, %target, %spins) : (!llvm.ptr, i64, i64) -> ()
  llvm.br ^end
^end:
  llvm.return
}}
llvm.func @{prefix}{WORK}(%address: i64, %thread: i64, %first: i32) {{
  %state = llvm.inttoptr %address : i64 to !llvm.ptr
  %null = llvm.mlir.zero : !llvm.ptr
  %zero64 = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i32) : i32
  %one64 = llvm.mlir.constant(1 : i64) : i64
  {_fields("generation sleepers done code arguments stride wait_spins idle_offers")}
  llvm.br ^idle(%first : i32)
^idle(%seen: i32):
  %spins = llvm.load %wait_spins_at : !llvm.ptr -> i64
  %offers = llvm.load %idle_offers_at : !llvm.ptr -> i64
  %most = llvm.add %spins, %offers : i64
  llvm.br ^look(%zero64 : i64)
^look(%n: i64):
  %now = llvm.load %generation_at atomic acquire {{alignment = 4 : i64}} : !llvm.ptr -> i32
  %changed = llvm.icmp "ne" %now, %seen : i32
  llvm.cond_br %changed, ^work, ^again
^again:
  %next = llvm.add %n, %one64 : i64
  %soon = llvm.icmp "ult" %n, %spins : i64
  llvm.cond_br %soon, ^spin, ^offer
^spin:
  {_pause(arch)}
  llvm.br ^look(%next : i64)
^offer:
  %offered = llvm.call @sched_yield() : () -> i32
  %more = llvm.icmp "ult" %next, %most : i64
  llvm.cond_br %more, ^look(%next : i64), ^sleep
^sleep:
  %a = llvm.atomicrmw add %sleepers_at, %one seq_cst : !llvm.ptr, i32
  llvm.br ^asleep
^asleep:
  %number = llvm.mlir.constant({futex} : i64) : i64
  %operation = llvm.mlir.constant(128 : i64) : i64
  %expected = llvm.zext %seen : i32 to i64
  %woken = llvm.call @syscall(%number, %generation_at, %operation, %expected, %null)
    vararg(!llvm.func<i64 (i64, ...)>) : (i64, !llvm.ptr, i64, i64, !llvm.ptr) -> i64
  %then = llvm.load %generation_at atomic seq_cst {{alignment = 4 : i64}} : !llvm.ptr -> i32
  %still = llvm.icmp "eq" %then, %seen : i32
  llvm.cond_br %still, ^asleep, ^awake
^awake:
  %b = llvm.atomicrmw sub %sleepers_at, %one seq_cst : !llvm.ptr, i32
  llvm.br ^work
^work:
  %job = llvm.load %generation_at atomic acquire {{alignment = 4 : i64}} : !llvm.ptr -> i32
  %code = llvm.load %code_at : !llvm.ptr -> !llvm.ptr
  %stop = llvm.icmp "eq" %code, %null : !llvm.ptr
  llvm.cond_br %stop, ^end, ^call
^call:
  %base = llvm.load %arguments_at : !llvm.ptr -> !llvm.ptr
  %stride = llvm.load %stride_at : !llvm.ptr -> i64
  %offset = llvm.mul %stride, %thread : i64
  %mine = llvm.getelementptr %base[%offset] : (!llvm.ptr, i64) -> !llvm.ptr, i8
  llvm.call %code(%mine) : !llvm.ptr, (!llvm.ptr) -> ()
  %c = llvm.atomicrmw add %done_at, %one64 acq_rel : !llvm.ptr, i64
  llvm.br ^idle(%job : i32)
^end:
  llvm.return
}}
"""


def _wait_text(arch: str) -> str:
    """`@morph.wait(%cell, %target, %spins)`: returns when the i64 in the cell has reached the target."""
    return f"""llvm.func @sched_yield() -> i32
llvm.func @morph.wait(%cell: !llvm.ptr, %target: i64, %spins: i64) {{
  %zero = llvm.mlir.constant(0 : i64) : i64
  %one = llvm.mlir.constant(1 : i64) : i64
  llvm.br ^look(%zero : i64)
^look(%n: i64):
  %now = llvm.load %cell atomic acquire {{alignment = 8 : i64}} : !llvm.ptr -> i64
  %reached = llvm.icmp "sge" %now, %target : i64
  llvm.cond_br %reached, ^end, ^again
^again:
  %soon = llvm.icmp "ult" %n, %spins : i64
  llvm.cond_br %soon, ^spin, ^offer
^spin:
  {_pause(arch)}
  %next = llvm.add %n, %one : i64
  llvm.br ^look(%next : i64)
^offer:
  %done = llvm.call @sched_yield() : () -> i32
  llvm.br ^look(%n : i64)
^end:
  llvm.return
}}"""


def _pause(arch: str) -> str:
    instruction, _ = _MACHINES[arch]
    return f'llvm.inline_asm has_side_effects "{instruction}", "~{{memory}}" : () -> ()'


def _fields(names: str) -> str:
    """Addresses of the state's fields, `%<field>_at`."""
    gep = "llvm.getelementptr %state[{}] : (!llvm.ptr) -> !llvm.ptr, i8"
    return "\n  ".join(f"%{name}_at = {gep.format(_PLACES[name])}" for name in names.split())
