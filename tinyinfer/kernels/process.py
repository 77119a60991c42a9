"""Another Python process, which calls functions for this one.

It is started, and not forked: threads do not outlive a fork, and locks that they had stay locked. Nor does
it run the main script again, as the processes of `multiprocessing` do.
"""

import os
import pickle
import sys
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from subprocess import DEVNULL, PIPE, Popen

from .threads import cores


def worthwhile() -> bool:
    """Is there a core for one, and a Python to start?"""
    return cores() > 1 and not hasattr(sys, "frozen")


class Process:
    """Answers come in the order of what was asked. It ends with the `with`, or with this process.

    What goes wrong there ends it without a word: then `ask` raises OSError, and `answer` EOFError.
    """

    def __init__(self, *modules):
        """The modules are imported there. Raises OSError if it cannot be started."""
        command = sys.executable, "-P", "-c", f"from {__name__} import serve; serve{modules}"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": DEVNULL}
        # In a session of its own: Ctrl-C is for all of the terminal's.
        self.there = Popen(command, env=environment, start_new_session=True, **pipes)

    def ask(self, f, *args):
        pickle.dump((f, args), self.there.stdin)
        self.there.stdin.flush()

    def answer(self):
        try:
            return pickle.load(self.there.stdout)
        except pickle.UnpicklingError as error:  # it ended in the middle of it
            raise EOFError from error

    def begin(self, f, *args):
        """later() is f(*args), made there or, where that fails, here."""
        with suppress(OSError):
            self.ask(f, *args)

        def later():
            try:
                return self.answer()
            except (OSError, EOFError):
                return f(*args)

        return later

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.there.kill()
        self.there.communicate()


def serve(*modules):
    """Call what is asked for, until nothing more is."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed is none
    for name in modules:
        import_module(name)
    while questions.peek():
        f, args = pickle.load(questions)
        pickle.dump(f(*args), answers)
        answers.flush()


@contextmanager
def meanwhile(*modules):
    """A `begin`: later = begin(f, *args) is a `partial` that another process has begun with. It has
    imported the modules, which take long: if they are here already, there is none, and `begin` is
    `partial`. What was begun first is asked for first."""
    other = None
    if worthwhile() and not sys.modules.keys() >= set(modules):
        with suppress(OSError):
            other = Process(*modules)
    with other or nullcontext():
        yield other.begin if other else partial
