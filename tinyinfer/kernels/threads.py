"""How many threads a step takes: into how many parts a kernel is split, and how many NumPy's products
of matrices may use. Its library decides for itself, by the number of cores: too many for the matrices of
small networks, and disastrous where others use the cores."""

import os
import sys
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from threading import Lock, local

from ..core.check import whole

chosen = 1  # with one, the last bits of a sum do not depend on the number of cores either


def set_num_threads(n: int):
    """Let products of matrices take `n` threads from now on, in the whole process; training,
    evaluating and compiled functions, which take one by themselves, too. Raises ArgumentError unless
    n is 1 or more."""
    global chosen
    chosen = whole("set_num_threads", n, 1)
    chosen_threads.stay(dict.fromkeys(libraries(), chosen))


def cores() -> int:
    return os.cpu_count() or 1


# Operations that a part should have at least: to hand it over costs as long as some ten thousand.
GRAIN = 2e5


def parts(operations, most) -> int:
    """Into how many parts a kernel with so many operations is split, if its result has `most`."""
    return int(max(1, min(max(chosen, among.threads), most, operations // GRAIN)))


class Among(local):
    threads = 1


among = Among()  # those that the kernels which are made meanwhile may take


@contextmanager
def split_among(threads):
    before, among.threads = among.threads, threads
    try:
        yield
    finally:
        among.threads = before


def libraries() -> list:
    """Those that are loaded: an import may bring another one, and to look for them takes a while."""
    return libraries_among(extensions(len(sys.modules)))


@lru_cache(maxsize=1)
def extensions(modules) -> int:
    """How many of the modules are machine code: with one of those a library comes."""
    files = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    return sum(str(file).endswith(tuple(EXTENSION_SUFFIXES)) for file in files)


@lru_cache(maxsize=1)
def libraries_among(extensions) -> list:
    # It looks through all that is loaded: not on import.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


class ChosenThreads:
    """While it is open, in any thread, products take as many as were chosen: one, unless
    `set_num_threads` was told. When the last one has left it is as it was before the first."""

    def __init__(self):
        self.lock, self.inside, self.before = Lock(), 0, {}

    def __enter__(self):
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = {library: library.get_num_threads() for library in libraries()}
                self.set(dict.fromkeys(self.before, chosen))

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.set(self.before)

    def stay(self, numbers):
        with self.lock:
            self.before = numbers
            self.set(numbers)

    def set(self, numbers):
        for library, n in numbers.items():
            library.set_num_threads(n)


chosen_threads = ChosenThreads()
