import re

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.graph import passes

X, W = ti.Spec((2, 3), np.dtype(np.float32)), ti.Spec((3, 4), np.dtype(np.float32))


def test_rows_and_totals():
    a = ti.analyze(ti.trace(lambda x, w: ti.relu(x @ w).T, X, W))
    assert [row[:8] for row in a.rows] == [
        ("0", "matmul", "float32[2, 4]", 48, 24, 72, 32, a.rows[0].node)[:8],
        ("1", "relu", "float32[2, 4]", 8, 0, 32, 32, a.rows[1].node)[:8],
        ("2", "transpose", "float32[4, 2]", 0, 0, 0, 0, a.rows[2].node)[:8],
    ]
    assert (a.flops, a.macs, a.read, a.written) == (56, 24, 104, 64)
    assert a.intensity == 56 / 168 and a.mac_share == 48 / 56
    assert a.share(a.rows[0]) == 1 and a.rows[2].intensity == 0


def test_fusing_saves_what_was_between():
    g = ti.trace(lambda x, w: ti.relu(x @ w), X, W)
    before, after = ti.analyze(g), ti.analyze(passes.fuse(g))
    assert after.flops == before.flops and after.macs == before.macs
    assert before.bytes - after.bytes == 2 * 2 * 4 * 4  # x @ w, written and read again


def test_a_loop_costs_what_its_turns_cost():
    w = ti.ones(4, 4)
    cell = lambda h, x: (ti.tanh(h @ w), x)
    g = ti.trace(lambda xs: ti.scan(cell, ti.ones(2, 4), xs)[0], ti.ones(7, 3))
    [row] = [row for row in ti.analyze(g).rows if row.op == "scan"]
    assert row.macs == 7 * 2 * 4 * 4
    assert row.read == 7 * 4 * (2 * 4 + 4 * 4 + 2 * 4) and row.written == 7 * 4 * (2 * 4 + 2 * 4)
    either = ti.trace(lambda x: ti.cond(x[0] > 0.0, lambda: x, lambda: x * 2.0 + 1.0), ti.ones(8))
    [row] = [row for row in ti.analyze(either).rows if row.op == "cond"]
    assert row.flops == 16 and row.written == 2 * 4 * 8


def test_the_table():
    text = str(ti.analyze(ti.trace(nn.Linear(3, 4), X)))
    assert re.search(r"^%1 +matmul +float32\[2, 4\] +48 +24 +100.0% +72 +32 +0\.46$", text, re.M)
    assert text.endswith("85.7% of the FLOPs are MACs; bytes as if each step ran alone")
    assert "total" in str(ti.analyze(ti.trace(lambda x: x, X)))


def test_history_tells_what_each_pass_saved():
    g = ti.trace(lambda x: (x * 2.0 + 1.0) * (x * 2.0 + 1.0), ti.ones(8))
    h = ti.optimize(g, ["cse", passes.fuse])
    assert [c.name for c in h.history] == ["cse", "fuse"]
    assert h.history[0].before is g and h.history[0].saved == (2, 16, 2 * 68 + 32)
    assert h.history[1].saved.steps == 2 and h.history[1].saved.flops == 0
    lines = str(h.history).splitlines()
    assert lines[2].split() == ["as", "it", "was", "5", "40", "368"]
    assert lines[3].split()[:4] == ["cse", "3", "24", "200"] and lines[4].startswith("fuse")
    assert str(g.history) == "no pass has run"
    with pytest.raises(ti.ArgumentError, match="no pass is called 'fusee'"):
        ti.optimize(g, ["fusee"])
