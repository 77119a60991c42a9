"""The loops compute what they say, and what was measured is remembered whatever is in the file."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import cli
from tinyinfer.runtime import machine as machines
from tinyinfer.runtime.machine import ASSUMED, Machine, Scaling, machine, remember, remembered

HERE = Machine("a CPU", 2e11, 8e11, 4e10, Scaling(1.9, 1.8, 1.1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machines, "TRIES", 2)
    monkeypatch.setattr(machines, "TRY", 1e-3)
    monkeypatch.setattr(machines, "COPIED", 1 << 20)
    return tmp_path / "cache" / "tinyinfer" / "machines.json"


def compare_loops():
    from tinyinfer.runtime import peak

    turns = 5
    x, acc = np.arange(peak.CHAINS, dtype="f4"), np.arange(peak.CHAINS, dtype="i4")
    for _ in range(turns):
        x = x / 2 + 1
        both = acc.view("u1").astype("i4") * acc.view("i1")
        acc = acc + both.reshape(-1, 4).sum(1, dtype="i4")
    assert np.isclose(peak.float_loop(turns), 16 * x.sum(), rtol=1e-5)
    assert peak.int8_loop(turns) == (16 * acc).sum(dtype="i4")
    assert peak.FLOPS == 2 * 16 * len(x) and peak.INT8_OPS == 8 * 16 * len(x)
    return peak


def test_the_loops_of_this_cpu():
    compare_loops()


def test_the_loops_of_any_cpu(tmp_path):
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    code = f"import runpy; p = runpy.run_path({__file__!r})['compare_loops'](); print(p.CHAINS)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **plain, "NUMBA_CACHE_DIR": str(tmp_path)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout == "3\n"  # registers of 4 lanes


def test_what_is_measured_is_positive_and_finite():
    m = machines.measured()
    rates = m.peak, m.int8, m.bandwidth, m.balance, *m.scaling
    assert all(0 < x < math.inf for x in rates) and m.name == machines.cpu() != ""
    assert not m.assumed and m.balance == m.peak / m.bandwidth


@pytest.mark.parametrize("m", [HERE, Machine("another", 1, 2, 3)])
def test_what_was_measured_is_remembered(cache, m):
    assert remembered() is None and machine() is ASSUMED and ASSUMED.assumed
    assert remember(m) == cache
    assert remembered() == machine() == machine(measure=True) == m
    assert [*cache.parent.iterdir()] == [cache]


def test_it_is_measured_once(cache):
    first = machine(measure=True)
    assert first == remembered() == machine(measure=True)


def test_other_machines_stay(cache, monkeypatch):
    remember(HERE)
    monkeypatch.setattr(machines, "key", lambda: "another, numba 1")
    assert machine() is ASSUMED
    remember(other := Machine("another", 1, 2, 3))
    assert machine() == other
    monkeypatch.undo()
    assert len(json.loads(cache.read_text())) == 2


def file_of(**changes):
    return json.dumps({machines.key(): asdict(HERE) | changes})


@pytest.mark.parametrize("text", [
    "", "{", "[]", "3", "null", '"text"', "\udcff", "[" * 100_000, json.dumps({machines.key(): [1]}),
    json.dumps({machines.key(): {}}), file_of(peak=-1), file_of(int8=0), file_of(bandwidth="fast"),
    file_of(peak=math.nan), file_of(peak=10**400), file_of(peak=None), file_of(more=1),
    file_of(scaling=[1, 2]), file_of(scaling=[1, 2, math.inf]), file_of(scaling=3),
])  # fmt: skip
def test_a_damaged_file_is_no_file(cache, text):
    cache.parent.mkdir(parents=True)
    cache.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert remembered() is None and machine() is ASSUMED
    remember(HERE)
    assert machine() == HERE


def test_a_damaged_file_is_measured_again(cache):
    cache.parent.mkdir(parents=True)
    cache.write_text(file_of()[:-20])
    assert machine(measure=True) == remembered() == machine() != ASSUMED


def test_a_cache_that_cannot_be_written(cache):
    cache.parents[1].write_text("in the way")
    assert not machine(measure=True).assumed
    with pytest.raises(OSError):
        remember(HERE)


@pytest.mark.parametrize("rates", [
    (0, 1, 1), (1, -1, 1), (1, 1, math.inf), (math.nan, 1, 1), ("1", 1, 1), (1, 1, 1, (1, 0, 1)),
])  # fmt: skip
def test_a_rate_is_a_positive_number(rates):
    with pytest.raises(ti.ArgumentError, match=r"Machine: a rate: a number in \(0, inf\), not"):
        Machine("none", *rates)


def test_the_table():
    assert str(HERE).splitlines() == [
        "a CPU                         one thread  two threads",
        "-----------------------------------------------------",
        "float32, multiply and add  200.0 GFLOP/s   1.90 times",
        "int8, multiply and add       800.0 GOP/s   1.80 times",
        "memory, read and written       40.0 GB/s   1.10 times",
        "balance                    5.0 FLOP/byte",
    ]
    assert "times" not in str(ASSUMED)


def test_the_command(cache, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tinyinfer", "bench", "machine"])
    assert cli.main() == 0
    out = capsys.readouterr().out
    assert out == f"{machine()}\nremembered in {cache}\n"
    assert re.search(r"^memory, read and written +[\d.]+ GB/s +[\d.]+ times$", out, re.M)
    before = machine()
    assert cli.main() == 0 and machine() != before  # asked for, it measures anew


def test_the_command_where_it_cannot_remember(cache, monkeypatch, capsys):
    cache.parents[1].write_text("in the way")
    monkeypatch.setattr(sys, "argv", ["tinyinfer", "bench", "machine"])
    assert cli.main() == 2 and capsys.readouterr().err.startswith("error: ")


def test_nothing_heavy_is_loaded_before_it_measures():
    code = "import sys, tinyinfer; from tinyinfer.runtime.machine import machine; machine()"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "numba" not in loaded.stdout.split()
