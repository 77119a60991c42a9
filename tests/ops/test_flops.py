"""Operations, counted one by one in loops, against the formulas."""

import numpy as np
import pytest
from samples import ENTRIES, name

import tinyinfer as ti
from tinyinfer.core.spec import Spec
from tinyinfer.ops import (
    binary,
    conv,
    elementwise,
    index,
    integer,
    layout,
    linalg,
    norm,
    packed,
    pool,
    quantize,
    random,
    reduce,
    sparse,
    winograd,
)
from tinyinfer.ops import shape as move
from tinyinfer.testing import slopes


def count(*ranges, each=1):
    """How often the innermost line of a loop nest runs, times what it does there."""
    return sum(each for _ in np.ndindex(*ranges))


MULTIPLY_ADD = 2
nothing = lambda op, y, *xs: 0
each_result = lambda n: lambda op, y, *xs: count(*y, each=n)
each_input = lambda n: lambda op, y, x: count(*x, each=n)
COUNTS = {
    elementwise.Elementwise: lambda op, y, *xs: count(*y, each=op.cost),
    quantize.FakeQuantize: each_result(4),  # divide, round, clip, multiply
    norm.LayerNorm: each_input(5),  # to the mean, from it, square, to the sum, divide
    norm.BatchNorm: each_result(2),  # times a scale, plus a shift
    linalg.MatMul: lambda op, y, a, b: count(*y, a[-1], each=MULTIPLY_ADD),
    conv.Conv2d: lambda op, y, x, w: count(*y, *w[1:], each=MULTIPLY_ADD),
    conv.Conv2dInput: lambda op, y, g, w: count(*g, *w[1:], each=MULTIPLY_ADD),
    conv.Conv2dWeight: lambda op, y, g, x: count(*g, *y[1:], each=MULTIPLY_ADD),
    pool.Pool2d: lambda op, y, *xs: count(*y, *op.size),
    pool.AvgPool2dInput: lambda op, y, g: count(*g, *op.pool.size),
    pool.OfMaximum: lambda op, y, g, x, m: count(*m, *op.pool.size),
    index.IndexPut: lambda op, y, x, *at: count(*x),  # additions
    reduce.Var: each_input(4),  # to the mean, from it, square, to the sum
    reduce.LogSumExp: each_input(3),  # minus the largest, exp, to the sum
    reduce.Others: each_input(3),  # products from the left, from the right, and of both
    reduce.Softmax: each_input(4),  # ... and divide
    reduce.LogSoftmax: each_input(4),  # ... and subtract
    reduce.Reduce: each_input(1),
    sparse.Trilinear: lambda op, y, *xs: count(*xs[0], xs[3][op.in_rows - 1], each=MULTIPLY_ADD),
    **dict.fromkeys([sparse.CooOrder, sparse.RowStarts, sparse.EntryRows], nothing),
    binary.BinaryMatMul: lambda op, y, *xs: count(*y, op.size, each=MULTIPLY_ADD),
    binary.BinaryConv2d: lambda op, y, x, w: count(*y, *w[1:3], op.channels, each=MULTIPLY_ADD),
    **dict.fromkeys([binary.PackBits, binary.WordPanels], nothing),
    integer.QLinearMatMul: lambda op, y, x, w, *xs: count(*y, w[0], each=MULTIPLY_ADD),
    integer.QLinearConv: lambda op, y, x, w, *xs: count(*y, *w[1:], each=MULTIPLY_ADD),
    integer.BytePanels: nothing,
    layout.In: lambda op, *shapes: of_image(op, *shapes),
    **dict.fromkeys([packed.Columns, packed.Rows, packed.Filters, packed.Turned], nothing),
    packed.Packed: lambda op, y, x, p: naive(op.op, y, x, op.shape),
    winograd.Winograd: lambda op, y, w: of_filters(w, op.m + w[2] - 1),
    layout.Reorder: nothing,
    random.Random: nothing,
    index.Index: nothing,
    index.OneHot: nothing,
    **dict.fromkeys([move.Reshape, move.Transpose, move.BroadcastTo], nothing),
    **dict.fromkeys([move.Slice, move.PutSlice, move.Concat, move.Pad], nothing),
}


def of_image(op, y, *xs):
    """Padding is not counted."""
    plain = lambda i, x: op.way(i).infer(x) if op.way(i) else x
    xs = [plain(i, Spec(x, np.dtype("float32"))) for i, x in enumerate(xs)]
    return naive(op.op, op.op.infer(*xs).shape, *[x.shape for x in xs])


def of_filters(w, n):
    """(n x r) @ (r x r) @ (r x n), of each."""
    r = w[2]
    return count(*w[:2], n, r, r, each=MULTIPLY_ADD) + count(*w[:2], n, n, r, each=MULTIPLY_ADD)


def naive(op, *shapes):
    rule = next(COUNTS[cls] for cls in type(op).__mro__ if cls in COUNTS)
    return rule(op, *shapes)


def gradients_of(call):
    return lambda *xs: [g for g in slopes(call, xs).values() if g is not None]


@pytest.mark.parametrize("entry", [pytest.param(e, id=name(e.of)) for e in ENTRIES])
def test_flops(entry):
    for call in entry.calls:
        xs = [ti.tensor(x, requires_grad=x.dtype.kind == "f") for x in call.arrays]
        floats = [x for x in xs if x.spec.floating]
        for fn in [call, gradients_of(call)] if entry.smooth and floats else [call]:
            for n in ti.trace(fn, *xs).steps:
                shapes = [x.spec.shape for x in n.inputs]
                assert n.op.flops(n.spec, *[x.spec for x in n.inputs]) == naive(
                    n.op, n.spec.shape, *shapes
                )


def test_costs_are_as_the_formulas_have_them():
    cost = {op.name: op.cost for op in (ti.add, ti.identity, ti.silu, ti.hardswish, ti.softplus)}
    assert cost == {"add": 1, "identity": 0, "silu": 4, "hardswish": 5, "softplus": 3}


def test_of_a_graph():
    w = ti.ones(4, 3)
    assert ti.trace(lambda x: ti.relu(x @ w), ti.ones(2, 4)).flops() == 2 * 2 * 3 * 4 + 2 * 3
