"""Threads that help with a loop, without asking Python.

    board: state = (turn, parts, part that is next); which task, where its arguments are; parts done

    who calls:  write the task on the board; then the state of a new turn
                while the state has a part: take it and do it
                wait for the parts that helpers took
    a helper:   while there was some in the last millisecond:
                    if the state has a part: take it and do it
                then wait in Python, where that takes no time

The state is one number, and a part is taken by swapping that for the next one, if it is still what was
read: so nobody takes a part twice, or of another turn than the task that was read before. Nobody waits
for a thread that sleeps: who called takes its parts. If two call at once, the second does all of its own
loop.
"""

import atexit
import ctypes
import os
import sys
from _thread import get_native_id, start_new_thread
from contextlib import suppress
from queue import SimpleQueue

from llvmlite import ir
from numba import njit, types

from .host import HOST
from .micro import Value, builder, call, constant, micro
from .simd import i64, pointer

MEMORY = 4096  # bytes of the board, all zero in the beginning
# Where what is on it, in bytes: each in a line of the cache.
BUSY, STATE, DONE, INSIDE, END, TASK, PLACE, CORE = range(0, 8 * 64, 64)
NEXT, PARTS, TURN = 1, 1 << 16, 1 << 32  # what the fields of the state count in
PATIENCE, SHORT = 1 << 15, 1 << 10  # looks at the board, of some 30 ns
HELP, HERE, STOP, FORKED = range(0, -4, -1)  # in place of a task

TASKS = ir.FunctionType(ir.VoidType(), (i64, i64))  # (part, where the arguments are)


@micro(types.intp)
def board():
    """Its address: there is one, in the memory of the function that asks for it."""
    b, name = builder(), "board"
    kind = ir.ArrayType(ir.IntType(8), MEMORY)
    there = b.module.globals.get(name) or ir.GlobalVariable(b.module, kind, name)
    there.linkage, there.initializer, there.align = "internal", ir.Constant(kind, None), 64
    return Value(b.ptrtoint(there, i64))


@micro(types.intp)
def get(address):
    return Value(builder().load_atomic(pointer(address, i64), "seq_cst", 8))


@micro
def put(address, x):
    builder().store_atomic(x.ir, pointer(address, i64), "seq_cst", 8)


@micro(types.intp)
def add(address, x):
    """What was there before."""
    return Value(builder().atomic_rmw("add", pointer(address, i64), x.ir, "seq_cst"))


@micro(types.boolean)
def swap(address, old, new):
    """Put `new` there, if it is still `old`."""
    b = builder()
    return Value(b.extract_value(b.cmpxchg(pointer(address, i64), old.ir, new.ir, "seq_cst"), 1))


@micro
def pause():
    """The core may do something else for a moment."""
    if HOST.x86:
        call("llvm.x86.sse2.pause", ir.VoidType())


@micro
def give_way():
    """To another thread that waits for this core."""
    if os.name == "posix":
        call("sched_yield", ir.IntType(32))


@micro
def do(task, part, place):
    b = builder()
    b.call(b.inttoptr(task.ir, TASKS.as_pointer()), [part.ir, place.ir])


@micro(types.intp)
def core():
    """On which this thread runs; below 0, if the system does not tell."""
    if not sys.platform.startswith("linux"):
        return constant(i64, -1)
    return Value(builder().sext(call("sched_getcpu", ir.IntType(32)).ir, i64))


@njit(nogil=True)
def has_part(state):
    return state % PARTS < state % TURN // PARTS


@njit(nogil=True)
def take_part(there):
    """Do a part of what is on the board, if there is one."""
    state = get(there + STATE)
    if not has_part(state):
        return False
    task, place = get(there + TASK), get(there + PLACE)
    if swap(there + STATE, state, state + NEXT):
        do(task, state % PARTS, place)
        add(there + DONE, 1)
    return True


@njit(nogil=True)
def share_out(there, task, parts, place):
    put(there + TASK, task)
    put(there + PLACE, place)
    put(there + CORE, core())
    put(there + DONE, 0)
    put(there + STATE, (get(there + STATE) // TURN + 1) * TURN + parts * PARTS)
    while take_part(there):
        pass
    looks = 0
    while get(there + DONE) < parts:
        looks += 1
        if looks > SHORT:
            give_way()  # if this is the core of a helper that is not done
        pause()


@njit(nogil=True)
def in_the_way(there):
    """Is it on the core of who called, or woke it?"""
    here = core()
    return here >= 0 and here == get(there + CORE)


@njit(nogil=True)
def help_others(there, patience, taken):
    """Until there was nothing to do for long; or until it is in the way: its core is noted at the address
    `taken`."""
    looks = 0
    add(there + INSIDE, 1)
    put(taken, -1)
    while looks < patience and get(there + END) == 0 and get(taken) < 0:
        if in_the_way(there):
            put(taken, core())
        elif take_part(there):
            looks = 0
        else:
            looks += 1
            pause()
    add(there + INSIDE, -1)


@njit(cache=True, nogil=True)
def each_part(task, parts, place):
    """task(part, place) for each part; or one of the other jobs."""
    there = board()
    if task == HELP:
        help_others(there, parts, place)
    elif task == HERE:
        put(there + CORE, core())
        put(place, core())
    elif task == STOP:
        put(there + END, 1)
        while get(there + INSIDE) > 0:
            pause()
    elif task == FORKED:
        put(there + INSIDE, 0)
        put(there + STATE, 0)  # of a loop in the midst of which it was forked
        put(there + BUSY, 0)
    elif swap(there + BUSY, 0, 1):
        share_out(there, task, parts, place)
        put(there + BUSY, 0)
    else:
        for part in range(parts):
            do(task, part, place)


EACH_PART = (types.intp,) * 3


def other_cores(core) -> set:
    """Where a thread may run so as not to be in the way of that core; none, if there is no choice."""
    allowed = os.sched_getaffinity(0) if core >= 0 else set()
    return allowed - {core}


def move(thread, cores):
    """As the system allows."""
    with suppress(OSError):
        os.sched_setaffinity(thread, cores)


class Helpers:
    """The threads: they are begun when there is work for them, and never end.

    Linux wakes a thread on the core of who woke it, and may leave both there for a fifth of a second. So
    a helper is kept from that core while it wakes, and leaves the core of who called when it sees it."""

    def __init__(self):
        self.begun, self.waiting = 0, []

    def wake(self, count):
        """Have so many look at the board: soon. The list and the count are Python's own, so that two who
        call at once begin a helper too many at worst."""
        if self.begun >= count and not self.waiting:
            return
        here = ctypes.c_int64()
        each_part(HERE, 0, ctypes.addressof(here))
        others = other_cores(here.value)
        while self.begun < count:
            self.begun += 1
            start_new_thread(self.work, ())
        for _ in range(min(count, len(self.waiting))):
            try:
                thread, called = self.waiting.pop()
            except IndexError:  # somebody else woke it
                return
            if others:
                move(thread, others)
            called.put(others | {here.value})

    def work(self):
        thread, called, taken = get_native_id(), SimpleQueue(), ctypes.c_int64()
        while True:
            each_part(HELP, PATIENCE, ctypes.addressof(taken))
            if others := other_cores(taken.value):
                move(thread, others)
                move(thread, others | {taken.value})
            else:
                self.waiting.append((thread, called))
                if len(allowed := called.get()) > 1:
                    move(thread, allowed)


helpers = Helpers()


def forked():
    """The child of a process has none of its threads."""
    helpers.__init__()
    each_part(FORKED, 0, 0)


atexit.register(lambda: helpers.begun and each_part(STOP, 0, 0))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: helpers.begun and forked())
