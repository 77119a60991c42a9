import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from operator import floordiv

import pytest

from tinyinfer.kernels import process
from tinyinfer.kernels.process import Process, meanwhile

LARGE = bytes(10_000_000)  # more than a pipe holds
MODULE = "this"  # which nobody imports


@pytest.fixture
def other():
    with Process() as other:
        yield other


def test_answers_come_in_the_order_of_what_was_asked(other, capfd):
    other.ask(len, LARGE)
    other.ask(print, "no answer")
    other.ask(os.getpid)
    assert [other.answer() for _ in "abc"] == [len(LARGE), None, other.there.pid]
    assert os.getsid(other.there.pid) != os.getsid(0)  # Ctrl-C is not for it
    assert capfd.readouterr() == ("", "")


def test_what_fails_there_is_done_here(other, capfd):
    calls = (os.getpid,), (floordiv, 1, 0), (len, LARGE)
    there, fails, here = (other.begin(*call) for call in calls)
    assert there() == other.there.pid
    with pytest.raises(ZeroDivisionError):
        fails()
    assert here() == len(LARGE)
    assert other.begin(os.getpid)() == os.getpid()  # it has ended
    assert capfd.readouterr() == ("", "")


def test_what_it_was_killed_at_is_done_here(other):
    later = other.begin(time.sleep, 0.1), other.begin(os.getpid)
    other.there.kill()
    assert [f() for f in later] == [None, os.getpid()]


def test_it_ends_whatever_happens():
    with suppress(KeyboardInterrupt), Process() as idle:
        raise KeyboardInterrupt
    with Process() as busy:
        busy.ask(signal.pause)
    assert idle.there.returncode == busy.there.returncode == -signal.SIGKILL


ORPHANED = """
import os, sys
from tinyinfer.kernels.process import Process
other = Process()
other.ask(os.open, sys.argv[1], os.O_WRONLY)
other.answer()
os.kill(os.getpid(), 9)
"""


def test_it_ends_when_nobody_can_ask_any_more(tmp_path):
    os.mkfifo(fifo := tmp_path / "open there")
    with subprocess.Popen([sys.executable, "-c", ORPHANED, fifo]):
        assert fifo.read_text() == ""  # it has an end


def test_meanwhile():
    with meanwhile(MODULE) as begin:
        assert begin(os.getpid)() != os.getpid()


@pytest.mark.parametrize("why", ["no core", "no process", "all is here"])
def test_where_no_process_is_worth_it(why, monkeypatch):
    if why == "no core":
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
    if why == "no process":
        monkeypatch.setattr(process, "Popen", partial(process.Popen, cwd="/nowhere"))
    with meanwhile("os" if why == "all is here" else MODULE) as begin:
        assert begin is partial
