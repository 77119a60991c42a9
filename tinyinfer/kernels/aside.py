"""Kernels compiled by two processes: Numba compiles one at a time in each.

here                compiles from the front of the queue
another process     from its end, as soon as that takes long; what it made lies on disk
"""

from collections import deque
from contextlib import suppress
from importlib import import_module
from threading import Event, Thread

from .native import entry
from .process import Process, worthwhile

SOON = 0.5  # seconds, about what another process takes to begin: less is not worth it


def compile_all(jobs):
    """The machine code of each (f, kinds), from disk if it is there."""
    waiting, done = deque(jobs), Event()
    other = Thread(target=share, args=(waiting, done), daemon=True)
    other.start()
    try:
        while waiting:
            entry(*waiting.popleft())
    finally:
        waiting.clear()
        done.set()
    other.join()


def share(waiting, done):
    """What waits for long goes to another process. If that fails, it is compiled when it is needed."""
    if not done.wait(SOON) and worthwhile():
        with suppress(
            IndexError, OSError, EOFError
        ):  # IndexError: the last one was taken meanwhile
            hand_over(waiting)


def hand_over(waiting):
    with Process(__name__) as other:
        while waiting:
            f, kinds = waiting.pop()
            other.ask(compiled, f.__module__, f.__name__, kinds)
            other.answer()


def compiled(module, name, kinds):
    entry(getattr(import_module(module), name), kinds)
