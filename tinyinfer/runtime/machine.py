"""How fast one core of this machine can compute, and its memory deliver: what a roof is made of."""

import json
import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from threading import Barrier
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ..core.check import number
from ..graph.file import write
from ..graph.table import table

TRIES, TRY = 10, 0.02  # the best counts; seconds
COPIED = 64 << 20  # bytes: no cache holds that
DAMAGED = OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError


class Scaling(NamedTuple):
    """What two threads reach together, one being 1: less than 2, where they share something."""

    peak: float
    int8: float
    bandwidth: float


@dataclass(frozen=True)
class Machine:
    """Raises ArgumentError if a rate is not a positive number."""

    name: str  # of its CPU
    peak: float  # FLOP/s of one core: float32, multiplications with additions
    int8: float  # operations/s of one core: products of four bytes, added in 32 bits
    bandwidth: float  # bytes/s, read and written, of arrays much larger than the caches
    scaling: Scaling | None = None

    def __post_init__(self):
        for rate in (self.peak, self.int8, self.bandwidth, *(self.scaling or ())):
            number("Machine: a rate", rate, "(0, inf)")

    @property
    def balance(self) -> float:
        """FLOPs for each byte moved: with fewer the memory bounds a step, with more the peak."""
        return self.peak / self.bandwidth

    @property
    def assumed(self) -> bool:
        return self == ASSUMED

    def __str__(self):
        more = [f"{x:.2f} times" for x in self.scaling] if self.scaling else [""] * 3
        rates = [
            ("float32, multiply and add", f"{self.peak / 1e9:.1f} GFLOP/s"),
            ("int8, multiply and add", f"{self.int8 / 1e9:.1f} GOP/s"),
            ("memory, read and written", f"{self.bandwidth / 1e9:.1f} GB/s"),
        ]
        rows = [(*rate, times) for rate, times in zip(rates, more)]
        rows.append(("balance", f"{self.balance:.1f} FLOP/byte", ""))
        return table((self.name, "one thread", "two threads"), rows)


ASSUMED = Machine("AMD EPYC (Zen 5)", 241e9, 920e9, 37e9)


def machine(measure=False) -> Machine:
    """This machine, as it was measured once and for all; if it was not, ASSUMED, or, if you want it
    to `measure`, as it is now. (That takes 2 s, in which nothing else should run.)"""
    return remembered() or (keep(measured()) if measure else ASSUMED)


# Remembering


def known_machines() -> Path:
    """The file of all machines that were measured, by `key`, in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "tinyinfer", "machines.json")


def key() -> str:
    """What the figures depend on: another compiler may find other instructions."""
    from importlib.metadata import version  # slow to load, and rarely needed

    return f"{cpu()}, numba {version('numba')}"


def remembered() -> Machine | None:
    """None too if the file is damaged."""
    try:
        found = read()[key()]
        scaling = found["scaling"] and Scaling(*found["scaling"])
        return Machine(**found | {"scaling": scaling})
    except DAMAGED:
        return None


def read() -> dict:
    return json.loads(known_machines().read_text(encoding="utf-8"))


def remember(m: Machine) -> Path:
    """For next time; where the others are, they stay. Raises OSError if it cannot be written."""
    try:
        known = dict(read())
    except DAMAGED:
        known = {}
    path = known_machines()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(known | {key(): asdict(m)}, indent=1).encode())
    return path


def keep(m: Machine) -> Machine:
    """Remembered, if that can be."""
    try:
        remember(m)
    except OSError:
        pass
    return m


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


# Measuring


class Load(NamedTuple):
    do: Callable  # do(turns, thread); two threads can do it side by side
    amount: int  # of operations, or bytes, in a turn


def measured() -> Machine:
    """As it is now; the best of several tries, since others may be at work on it."""
    tries = [(load, enough(load)) for load in loads()]
    rounds = [[[rate(*t, threads) for t in tries] for threads in (1, 2)] for _ in range(TRIES)]
    one, two = np.max(rounds, axis=0)
    return Machine(cpu(), *one.tolist(), Scaling(*(two / one).tolist()))


def loads() -> tuple[Load, Load, Load]:
    from . import peak  # with Numba: not on import

    arrays = [(np.empty(COPIED, np.uint8), np.ones(COPIED, np.uint8)) for _ in range(2)]

    def copy(turns, thread):
        for _ in range(turns):
            np.copyto(*arrays[thread])

    return (
        Load(lambda turns, thread: peak.float_loop(turns), peak.FLOPS),
        Load(lambda turns, thread: peak.int8_loop(turns), peak.INT8_OPS),
        Load(copy, 2 * COPIED),
    )


def enough(load) -> int:
    """Turns that fill a try."""
    load.do(1, 0)  # the first one may compile it
    turns = 1
    while (took := seconds(load, turns, 1)) < TRY / 4:
        turns *= 2
    return ceil(turns * TRY / took)


def rate(load, turns, threads) -> float:
    return threads * turns * load.amount / seconds(load, turns, threads)


def seconds(load, turns, threads) -> float:
    """From when the first thread begins until the last has done its turns."""
    gate = Barrier(threads)

    def timed(thread):
        gate.wait()
        start = perf_counter()
        load.do(turns, thread)
        return start, perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        starts, ends = zip(*pool.map(timed, range(threads)))
    return max(ends) - min(starts)
