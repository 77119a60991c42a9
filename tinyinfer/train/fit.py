"""A run from where it is to its end, so that it can be broken off at any time."""

import signal
import threading
from contextlib import contextmanager

from ..kernels.threads import chosen_threads
from . import checkpoint
from .folder import Folder


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, and is saved if it has a folder. `signal` is the number of what asked."""

    def __init__(self, signum):
        super().__init__(signal.Signals(signum).name)
        self.signal = signum


def fit(run, folder=None, resume=False, watch=None) -> list[dict]:
    """Train to the end, and return the rows of the metrics, one an epoch.

    folder: where the run is saved after every epoch; what is in it is said in `Folder`. With
    `resume` the run goes on from there, as if it had never stopped. watch(run) is called after
    every step. On SIGINT (Ctrl-C) or SIGTERM the step is finished, the run saved, and Interrupted
    raised, a KeyboardInterrupt; the second signal does at once what it always did.
    Every step begins with model.train(), which reaches all parts: where some stay as in use, such
    as frozen batch statistics, the model has a train() of its own that says so.
    Raises NonFiniteError, and what `Folder.start` and `Checkpoint.restore` raise.
    """
    folder = folder and Folder(folder)
    if folder and resume:
        checkpoint.load(folder.checkpoint).restore(run)
        folder.save(run)  # the metrics of what was learned after the checkpoint are taken back
    elif folder:
        folder.start(run)
    with stopping() as asked, chosen_threads:
        while not run.done:
            run.step()
            if watch:
                watch(run)
            if folder and (asked or run.batch == 0):
                folder.save(run)
            if asked:
                raise Interrupted(*asked)
    return run.rows


@contextmanager
def stopping():
    """A list that gets the number of the first signal to stop; the second has its old effect."""
    asked, before = [], {}

    def ask(signum, frame):
        asked.append(signum)
        restore()

    def restore():
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(signum) is not signal.SIG_IGN:
                before[signum] = signal.signal(signum, ask)
    try:
        yield asked
    finally:
        restore()
