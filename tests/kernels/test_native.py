"""How machine code is called, split among threads, kept on disk, and told of."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Barrier

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from tinyinfer.kernels import native as here
from tinyinfer.kernels import threads
from tinyinfer.kernels.native import bound, bound_several, native
from tinyinfer.kernels.simd import f32, loop, micro, read, store
from tinyinfer.kernels.static import Static

RNG = np.random.default_rng(0)
TIMES_TWO = Static(times=2)
parts_too = pytest.mark.parametrize("parts", [1, 2, 3, 40])


@native
def sums(t, part, parts, y, x, seen, more):
    """y[i] = times * (x[i, 0] + x[i, 1] + ...) + more; and which part made it."""
    for i in range(len(y) * part // parts, len(y) * (part + 1) // parts):
        total = np.float32(0)
        for k in range(x.shape[1]):
            total += x[i, k]
        y[i] = t.times * total + more
        seen[i] = part


def sums_of(x, more):
    return 2 * np.add.accumulate(x, 1)[:, -1] + more if x.size else np.full(len(x), more)


def numbers(*shape):
    return RNG.integers(-99, 99, shape).astype("f4")


def read_only(x):
    x.flags.writeable = False
    return x


ARRAYS = {
    "as they are": lambda: (np.empty(17, "f4"), numbers(17, 5)),
    "only to read": lambda: (np.empty(17, "f4"), read_only(numbers(17, 5))),
    "turned round": lambda: (np.empty(17, "f4"), numbers(5, 17).T),
    "with gaps": lambda: (np.empty(34, "f4")[::2], numbers(17, 10)[:, ::2]),
    "backwards": lambda: (np.empty(17, "f4")[::-1], numbers(17, 5)[::-1]),
    "one for all": lambda: (np.empty((17, 3), "f4")[:, 1], np.broadcast_to(numbers(5), (17, 5))),
    "unaligned": lambda: (np.empty(69, "u1")[1:].view("f4"), numbers(17, 5)),
    "of a subclass": lambda: (np.empty(17, "f4"), numbers(17, 5).view(np.recarray)),
    "one": lambda: (np.empty(1, "f4"), numbers(1, 1)),
    "no rows": lambda: (np.empty(0, "f4"), numbers(0, 5)),
    "no columns": lambda: (np.empty(17, "f4"), numbers(17, 0)),
    "nothing, with gaps": lambda: (np.empty((0, 4), "f4")[:, 1], numbers(5, 0).T[::2]),
}
arrays = pytest.mark.parametrize("arrays", ARRAYS.values(), ids=ARRAYS)


@arrays
@parts_too
def test_arrays_of_all_kinds(arrays, parts):
    y, x = arrays()
    before, seen = x.copy(), np.full(len(y), -1)
    bound(sums, TIMES_TWO, (7,), parts)(y, x, seen)
    np.testing.assert_array_equal(y, sums_of(before, 7))
    assert [*seen] == [p for p in range(parts) for _ in rows_of(p, parts, len(y))]
    np.testing.assert_array_equal(x, before)


def rows_of(part, parts, n):
    return range(n * part // parts, n * (part + 1) // parts)


def test_one_bound_kernel_takes_arrays_of_all_kinds_in_turn():
    run = bound(sums, TIMES_TWO, (3,), 2)
    for made in [*ARRAYS.values()] * 2:
        y, x = made()
        run(y, x, np.empty(len(y), int))
        np.testing.assert_array_equal(y, sums_of(x, 3))


# ---- several arrays --------------------------------------------------------------------------------


@micro
def add_up(ys, xs, first, last):
    """Of all xs the sum, and the first less the others."""
    for k in loop(last << 2, first << 2, 4):
        a, *others = [read(x + k, f32) for x in xs]
        plus, minus = a, a
        for b in others:
            plus, minus = plus + b, minus - b
        store(ys[0] + k, plus)
        if len(ys) > 1:
            store(ys[1] + k, minus)


@native
def add_all(t, part, parts, ys, xs, numbers):
    n = numbers[0]
    add_up(ys, xs, n * part // parts, n * (part + 1) // parts)


@pytest.mark.parametrize("how", ["as they are", "with gaps", "turned round", "of a subclass"])
@pytest.mark.parametrize("size", [(6, 7), (0, 3)], ids=str)
@parts_too
def test_several_arrays(parts, size, how):
    lie = {
        "as they are": lambda x: x,
        "with gaps": lambda x: np.repeat(x, 2, 1)[:, ::2],
        "turned round": lambda x: np.asfortranarray(x),
        "of a subclass": lambda x: x.view(np.recarray),
    }[how]
    xs = [read_only(lie(numbers(*size))) for _ in range(3)]
    ys = [lie(np.full(size, np.nan, "f4")) for _ in range(2)]
    run = bound_several(add_all, Static(), (size[0] * size[1],), parts)
    run(tuple(ys), *xs)
    np.testing.assert_array_equal(ys[0], sum(xs))
    np.testing.assert_array_equal(ys[1], xs[0] - xs[1] - xs[2])


def test_several_after_one_another():
    """The first call decides nothing about the arrays of later ones."""
    run, x = bound_several(add_all, Static(), (12,)), numbers(3, 4)
    for a, b in (x, x), (x.T, x.T), (x, x[::-1]), (x.reshape(-1), x.reshape(-1)), (x, x):
        y = np.full_like(a, np.nan)
        run(y, a, b)
        np.testing.assert_array_equal(y, a + b)


# ---- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
def test_threads_that_call_at_once(parts):
    """Those that come first compile, the others wait; none gets another's arrays."""
    shared = bound(sums, Static(times=2, of=parts), (1,), parts)
    together = Barrier(4)

    def call(seed):
        x = np.random.default_rng(seed).integers(-9, 9, (50, 20)).astype("f4")
        y, own = np.empty(50, "f4"), bound(sums, TIMES_TWO, (seed,), parts)
        together.wait(60)
        for _ in range(50):
            for run, more in (shared, 1), (own, seed):
                y[:] = np.nan
                run(y, x, np.empty(50, int))
                np.testing.assert_array_equal(y, sums_of(x, more))

    with ThreadPoolExecutor(4) as pool:
        assert len([*pool.map(call, range(4))]) == 4


@pytest.mark.parametrize(
    "chosen, operations, most, wanted",
    [
        (1, 1e12, 100, 1),
        (4, 1e12, 100, 4),
        (4, 1e12, 3, 3),
        (4, 2.5 * threads.GRAIN, 100, 2),
        (4, 0.5 * threads.GRAIN, 100, 1),
        (4, 0, 0, 1),
    ],
)
def test_into_how_many_parts(monkeypatch, chosen, operations, most, wanted):
    monkeypatch.setattr(threads, "chosen", chosen)
    parts = threads.parts(operations, most)
    assert parts == wanted and type(parts) is int


# ---- on disk ---------------------------------------------------------------------------------------

ONE_KERNEL = """
from pathlib import Path
import numpy as np
import tinyinfer.kernels.native as here
from tinyinfer.kernels.native import bound, native
from tinyinfer.kernels.simd import at, load, micro, store
from tinyinfer.kernels.static import Static

here.HERE = Path(__file__).parent  # as if all kernels were here: they may be edited meanwhile

@micro
def add(t, y, x):
    store(y, load(x) + load(x + 4 * t.apart))

@native
def f(t, part, parts, y, x):
    add(t, at(y, 16 * part), at(x, 16 * part))

x, y = np.arange(64, dtype="f4"), np.empty(32, "f4")
bound(f, Static(apart=3), parts=2)(y, x)
assert (y == x[:32] + x[3:35]).all()
print(sum(f.stats.cache_hits.values()), sum(f.stats.cache_misses.values()))
"""


def test_the_next_process_finds_it_on_disk(tmp_path):
    program, kept = tmp_path / "one_kernel.py", tmp_path / "kept"
    program.write_text(ONE_KERNEL)

    def run(**more):
        """(found, compiled)"""
        environment = os.environ | {"NUMBA_CACHE_DIR": str(kept)} | more
        call = [sys.executable, program]
        done = subprocess.run(call, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tuple(map(int, done.stdout.split()))

    assert run() == (0, 1)
    assert run() == (1, 0)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(**other) == (0, 1), "it is for another CPU"
    assert run() == (1, 0), "both are kept"


def plain(t, part, parts, y):
    y[0] = 7


def compiled_anew() -> bool:
    f, y = native(plain), np.zeros(1)
    bound(f)(y)
    assert y[0] == 7
    return bool(sum(f.stats.cache_misses.values()))


@pytest.fixture
def empty_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))


@pytest.fixture
def other_kernels(monkeypatch, tmp_path):
    """A folder that is taken for that of the kernels."""
    (tmp_path / "a.py").write_text("a = 1")
    (tmp_path / "b.py").write_text("b = 2")
    monkeypatch.setattr(here, "HERE", tmp_path)
    here.sources.cache_clear()
    yield tmp_path
    here.sources.cache_clear()


def test_a_change_in_any_file_of_the_kernels_makes_it_stale(empty_disk, other_kernels):
    assert compiled_anew() and not compiled_anew()
    for name, text in ("b.py", "b = 3"), ("c.py", "c = 4"), ("a.py", ""):
        (other_kernels / name).write_text(text)
        here.sources.cache_clear()
        assert compiled_anew() and not compiled_anew()


def test_what_another_version_wrote(empty_disk, tmp_path):
    """Types that are no more cannot be read."""
    assert compiled_anew()
    for data in tmp_path.glob("kept/**/*.nbc"):
        data.write_bytes(b"cno_such_module\nNoSuchType\n.")
    assert compiled_anew() and not compiled_anew()


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_what_is_damaged_is_compiled_again(ending, empty_disk, tmp_path):
    for text in b"", b"garbage":
        assert compiled_anew()
        for file in tmp_path.glob(f"kept/**/*.{ending}"):
            file.write_bytes(text)
        assert compiled_anew() == (ending == "nbc") and not compiled_anew()
        shutil.rmtree(tmp_path / "kept")


def test_processes_that_compile_at_once_do_not_take_one_another_s_code(tmp_path):
    mine, theirs = (here.OnDisk(str(tmp_path), "f", "stamp") for _ in range(2))
    for file in mine, theirs:  # both have looked, and found nothing
        file._load_index = dict
    mine.save("kind a", "a")
    assert mine.load("kind a") == "a" and theirs.load("kind b") is None
    theirs._load_index = lambda: {"of": "these"}
    theirs.save("kind b", "b")
    for file in mine, theirs:
        assert (file.load("kind a"), file.load("kind b")) == ("a", "b")


def test_kernels_call_only_what_becomes_a_part_of_them():
    """What was kept of another could not."""
    import_module("tinyinfer.kernels.fast")
    modules = [m for name, m in [*sys.modules.items()] if name.startswith("tinyinfer.kernels.")]
    compiled = [f for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)]
    assert len(compiled) > 100
    for f in compiled:
        called = [f.py_func.__globals__.get(name) for name in f.py_func.__code__.co_names]
        for g in called:
            assert not isinstance(getattr(g, "_cache", None), here.Kept), (f, g)


TWO_PROCESSES = """
from collections import deque
from numba import types
from tinyinfer.kernels import aside, gather

def on_disk(x):
    pass

jobs = [(gather.any_outside, (types.intp,) * 3), (on_disk, ()), (gather.any_outside, (types.int32,) * 3)]
aside.share(deque(jobs[:1]), aside.Event())  # by another process
aside.share(deque(jobs[1:]), aside.Event())  # the second one is not to be found there
aside.compile_all(jobs[::2])
stats = gather.any_outside.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_another_process_compiles_too(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    call = [sys.executable, "-c", TWO_PROCESSES]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("2 0\n", "")


def test_what_was_made_from_other_sources_is_removed(tmp_path):
    before, now = (here.OnDisk(str(tmp_path), "f", stamp) for stamp in ("before", "now"))
    before.save("kind", "old")
    assert now.load("kind") is None
    now.save("another", "new")
    assert before.load("kind") is None and now.load("another") == "new"


def test_an_array_of_no_dimensions_in_threads():
    f, x = native(first_number), np.array(1.25, np.float32)
    for parts in 1, 2, 3:
        y = np.zeros(parts, np.float32)
        bound(f, parts=parts)(y, x)
        assert (y == 1.25).all()


def first_number(t, part, parts, y, x):
    y[part] = x[()]


# ---- messages --------------------------------------------------------------------------------------


def test_people_are_told_when_compiling_takes_long(empty_disk, monkeypatch, capsys):
    monkeypatch.setattr(here, "SLOW", 0)
    assert compiled_anew()
    assert capsys.readouterr().err == "compiling test_native.plain ...\n"


def test_and_only_then(empty_disk, monkeypatch, capsys):
    monkeypatch.setattr(here, "SLOW", 60)
    assert compiled_anew()
    assert capsys.readouterr().err == ""
