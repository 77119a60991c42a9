"""Kernels compiled by two processes: Numba compiles one at a time in each.

    here                compiles from the front of the queue
    another process     from its end, as soon as that takes long; what it made lies on disk

A process is started, and not forked: threads do not outlive a fork, and locks that they had stay locked.
"""

import os
import pickle
import sys
from collections import deque
from importlib import import_module
from subprocess import DEVNULL, PIPE, Popen
from threading import Event, Thread

from .native import entry

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
    if not done.wait(SOON) and (os.cpu_count() or 1) > 1 and not hasattr(sys, "frozen"):
        try:
            hand_over(waiting)
        except (IndexError, OSError):  # the last one was taken meanwhile; or there is no process
            pass


def hand_over(waiting):
    command = sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=there) as other:
        while waiting:
            f, kinds = waiting.pop()
            pickle.dump((f.__module__, f.__name__, kinds), other.stdin)
            other.stdin.flush()
            if not other.stdout.readline():
                return


def serve():
    """Compile what is asked for, until nothing more is."""
    while True:
        try:
            module, name, kinds = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        entry(getattr(import_module(module), name), kinds)
        print("done", flush=True)
