"""Threads that share the parts of a loop."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import numpy as np
import pytest

from tinyinfer.kernels.crew import helpers
from tinyinfer.kernels.native import bound, native


@native
def count(t, part, parts, y, x, more):
    """Numbers tell how often a part was done."""
    for i in range(x.size * part // parts, x.size * (part + 1) // parts):
        y[i] += x[i] * more


def counted(n, parts, turns, more=1):
    y, x = np.zeros(n, np.int64), np.arange(n)
    run = bound(count, numbers=(more,), parts=parts)
    for _ in range(turns):
        run(y, x)
    return y, x * turns * more


@pytest.mark.parametrize("parts", [2, 3, 7, 64])
def test_each_part_is_done_once(parts):
    for n in 64, 1000, 100_000:
        got, wanted = counted(n, parts, turns=300)
        assert np.array_equal(got, wanted)


def test_who_calls_at_the_same_time():
    """Each gets the parts of its own loop, whoever has the helpers."""
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda more: counted(5000, 3, 500, more), range(1, 9))
        assert all(np.array_equal(*each) for each in made)


def test_without_helpers_who_calls_does_all(monkeypatch):
    monkeypatch.setattr(helpers, "wake", lambda count: None)
    got, wanted = counted(1000, 5, turns=10)
    assert np.array_equal(got, wanted)


def test_helpers_are_as_many_as_were_asked_for():
    counted(100, 4, turns=20)
    begun = helpers.begun
    assert begun >= 3
    counted(100, 4, turns=20)
    assert helpers.begun == begun


SCRIPT = dedent("""
    import os, sys
    import numpy as np
    import tinyinfer as ti

    ti.set_num_threads(2)
    a = ti.tensor(np.ones((512, 512), np.float32))
    square = ti.compile(lambda a: a @ a, kernels="fast")
    assert (square(a).numpy() == 512).all()
    {then}
""")


def in_a_process(then):
    script = SCRIPT.format(then=then)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_helpers_of_its_own():
    assert (
        in_a_process(
            """
for _ in range(3):
    child = os.fork()
    if child == 0:
        right = all((square(a).numpy() == 512).all() for _ in range(20))
        print("in the child:", right, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (square(a).numpy() == 512).all()
"""
        ).count("in the child: True")
        == 3
    )


def test_a_process_ends_while_helpers_look_for_work():
    for _ in range(3):
        assert "all" in in_a_process("""
for _ in range(50): square(a)
print("all")
""")


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="a thread cannot be kept from a core here"
)
def test_awake_a_helper_may_use_all_cores_that_its_caller_may():
    """It is kept from one while it wakes."""
    assert (
        "{True}"
        in in_a_process("""
import time
for _ in range(20):
    time.sleep(0.02)  # it falls asleep
    square(a)
    time.sleep(0.01)
    print({os.sched_getaffinity(int(thread)) == os.sched_getaffinity(0) for thread in os.listdir("/proc/self/task")})
""").splitlines()[-1]
    )
