"""The matrices, exactly; and what is computed with them, against the definition."""

from fractions import Fraction

import numpy as np
import pytest

import tinyinfer as ti
from tinyinfer.errors import ArgumentError
from tinyinfer.graph.parse import parse_graph
from tinyinfer.ops.conv import Conv2d, windows
from tinyinfer.ops.layout import In, Reorder
from tinyinfer.ops.packed import Packed
from tinyinfer.ops.winograd import (
    POINTS,
    Winograd,
    convolve,
    filters,
    multiplications,
    toom_cook,
    usual_points,
)

A = lambda *shape: np.random.RandomState(0).standard_normal(shape)
SIZES = [(m, r) for m in range(1, 9) for r in range(1, 6) if m + r - 2 <= len(POINTS)]


# The matrices


def weights_of(at, g, bt):
    """(i, k, j) -> how often w_k d_j is in y_i"""
    products = at[:, None, None, :] * g.T[None, :, None, :] * bt.T[None, None, :, :]
    return products.sum(-1)


def is_a_filter(m, r, points):
    """Is it y_i = sum_k d_{i+k} w_k, for all w and d, without any rounding?"""
    at, g, bt = toom_cook(m, r, points)
    assert (at.shape, g.shape, bt.shape) == ((m, m + r - 1), (m + r - 1, r), (m + r - 1,) * 2)
    assert {type(x) for x in (*at.flat, *g.flat, *bt.flat)} == {Fraction}
    i, k, j = np.indices((m, r, m + r - 1))
    return np.array_equal(weights_of(at, g, bt), i + k == j)


@pytest.mark.parametrize("m, r", SIZES)
def test_it_is_a_filter_exactly(m, r):
    assert is_a_filter(m, r, usual_points(m, r))


@pytest.mark.parametrize(
    "points", [(0, 1, -1, 2, -2), (Fraction(1, 3), Fraction(-5, 7), 0, 11, 0.1), range(3, 8)]
)
def test_any_points_will_do(points):
    assert is_a_filter(4, 3, points) and is_a_filter(3, 4, points) and is_a_filter(1, 6, points)


@pytest.mark.parametrize("m, points", [(2, (0, 1, -1)), (4, (0, 1, -1, 2, -2))])
def test_the_matrices_of_lavin_and_gray(m, points):
    published = {
        2: (
            "1 1 1 0 / 0 1 -1 1",
            "1 0 0 / 1/2 1/2 1/2 / 1/2 -1/2 1/2 / 0 0 1",
            "1 0 -1 0 / 0 1 1 0 / 0 -1 1 0 / 0 -1 0 1",
        ),
        4: (
            "1 1 1 1 1 0 / 0 1 -1 2 -2 0 / 0 1 1 4 4 0 / 0 1 -1 8 -8 1",
            "1/4 0 0 / -1/6 -1/6 -1/6 / -1/6 1/6 -1/6 / 1/24 1/12 1/6 / 1/24 -1/12 1/6 / 0 0 1",
            "4 0 -5 0 1 0 / 0 -4 -4 1 1 0 / 0 4 -4 -1 1 0 / 0 -2 -1 2 1 0 / 0 2 -1 -2 1 0 "
            "/ 0 4 0 -5 0 1",
        ),
    }
    for ours, theirs in zip(toom_cook(m, 3, points), published[m]):
        assert [" ".join(map(str, row)) for row in ours] == theirs.split(" / ")


def test_powers_of_two_need_no_rounding():
    for m in 2, 4, 6:
        at, _, bt = toom_cook(m, 3, usual_points(m, 3))
        assert all(Fraction(float(np.float32(float(x)))) == x for x in (*at.flat, *bt.flat))


def test_multiplications():
    assert [9 / multiplications(m, 3) for m in (1, 2, 4, 6)] == [1, 2.25, 4, 5.0625]


@pytest.mark.parametrize(
    "points", [(0, 1), (0, 1, -1, 2), (0, 1, 1), (0, 1, 1.0), (0, 1, np.inf), (0, 1, np.nan)]
)
def test_points_are_different_and_as_many_as_needed(points):
    with pytest.raises(ArgumentError, match="m \\+ r - 2 different points besides infinity"):
        toom_cook(2, 3, points)


def test_too_many_points():
    with pytest.raises(ArgumentError, match="choose the others"):
        usual_points(len(POINTS), 3)


# Convolutions


def right(x, w, padding=((0, 0), (0, 0))):
    """In double precision."""
    seen = windows(x.astype("float64"), w.shape[2:], (1, 1), padding)
    return np.einsum("bcklij,ockl->boij", seen, w)


def near(y, true, tolerance):
    """The largest error is a part of the largest number."""
    largest = np.abs(true).max(initial=0)
    return y.shape == true.shape and np.abs(y - true).max(initial=0) <= tolerance * largest


SHAPES = [
    ((1, 1, 3, 3), 1, 3, ((0, 0), (0, 0))),
    ((2, 3, 5, 7), 4, 3, ((1, 1), (1, 1))),
    ((1, 17, 6, 6), 33, 3, ((0, 2), (1, 0))),
    ((3, 16, 13, 9), 16, 3, ((2, 2), (2, 2))),
    ((1, 2, 17, 1), 2, 3, ((0, 0), (1, 1))),
    ((2, 3, 8, 9), 5, 2, ((0, 1), (1, 0))),
    ((1, 4, 11, 10), 3, 5, ((2, 2), (2, 2))),
    ((2, 5, 4, 3), 6, 1, ((0, 0), (0, 0))),
    ((0, 2, 5, 5), 3, 3, ((1, 1), (1, 1))),
    ((1, 0, 5, 5), 3, 3, ((1, 1), (1, 1))),
    ((1, 2, 5, 5), 0, 3, ((1, 1), (1, 1))),
    ((1, 2, 1, 1), 2, 3, ((5, 1), (1, 6))),
]


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("x, o, r, padding", SHAPES)
def test_packed_it_is_a_convolution(x, o, r, padding, m):
    x, w = A(*x), A(o, x[1], r, r)
    form = Winograd(m, usual_points(m, r), 2)
    packed = Packed(Conv2d(padding=padding), form, w.shape)
    assert near(packed(x, form(w)).numpy(), right(x, w, padding), 1e-12)


@pytest.mark.parametrize("m, tolerance", [(2, 1e-6), (4, 5e-6), (6, 2e-5)])
def test_single_precision_stays_single_and_near(m, tolerance):
    x, w = A(2, 32, 19, 23).astype("float32"), A(24, 32, 3, 3).astype("float32")
    form, padding = Winograd(m, usual_points(m, 3), 1), ((1, 1), (1, 1))
    y = Packed(Conv2d(padding=padding), form, w.shape)(x, form(w)).numpy()
    assert y.dtype == np.float32 and near(y, right(x, w, padding), tolerance)


def test_better_points_have_smaller_errors():
    x, w = A(1, 64, 26, 26).astype("float32"), A(64, 64, 3, 3).astype("float32")
    error = {}
    for points in (0, 1, -1, 0.5, -2), (0, 1, -1, 2, -2):
        u = filters(w, 4, points).astype("float32")
        y = convolve(x, u, 4, 3, points, ((0, 0), (0, 0)))
        error[points] = np.linalg.norm(y - right(x, w))
    better, usual = error.values()
    assert better < 0.8 * usual


@pytest.mark.parametrize(
    "layout, before, after",
    [("NHWC", 5, 19), ("NCHW8c", 5, 19), ("NCHW16c", 5, 19), ("NCHW16n", 2, 2)],
)
def test_it_is_the_same_in_any_layout(layout, before, after):
    x, w = A(2, 5, 9, 7), A(19, 5, 3, 3)
    conv, form = Conv2d(padding=((1, 0), (1, 2))), Winograd(4, usual_points(4, 3), 2)
    laid_out = Packed(In(conv, layout, before), form, w.shape)(Reorder("NCHW", layout)(x), form(w))
    y = Packed(conv, form, w.shape)(x, form(w)).numpy()
    assert np.array_equal(Reorder(layout, "NCHW", after)(laid_out).numpy(), y)


@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_how_the_panels_lie(vectors):
    w, points = A(37, 5, 3, 3), usual_points(2, 3)
    p = Winograd(2, points, vectors).forward(w)
    u = filters(w, 2, points)
    wide = 16 * vectors
    assert p.shape == (-(-37 // wide), 16, 16, wide) and p.flags.c_contiguous
    for o, c in (0, 0), (16, 4), (36, 1):
        panel, column = divmod(o, wide)
        assert np.array_equal(p[panel, :, c, column].reshape(4, 4), u[:, :, c, o])
    assert np.count_nonzero(p) == np.count_nonzero(u)  # all else is filled with zeros


def test_they_are_rounded_once():
    w, points = A(16, 16, 3, 3).astype("float32"), usual_points(6, 3)
    p = Winograd(6, points, 1).forward(w)
    _, g, _ = toom_cook(6, 3, points)
    o, c, e, f = 3, 5, 2, 7
    exactly = g[e] @ np.array([[Fraction(float(x)) for x in row] for row in w[o, c]]) @ g[f]
    ulp = float(np.spacing(np.abs(p[0, 8 * e + f, c, o])))
    assert abs(Fraction(float(p[0, 8 * e + f, c, o])) - exactly) <= Fraction(0.501 * ulp)


def test_the_weights_come_back():
    w = A(20, 3, 3, 3)
    for m in 2, 4, 6:
        form = Winograd(m, usual_points(m, 3), 1)
        assert np.allclose(form.unpack(form.forward(w), w.shape), w, rtol=1e-13, atol=1e-13)


def test_what_is_not_finite_takes_the_definition():
    form = Winograd(4, usual_points(4, 3), 1)
    for where, number in (0, np.nan), (0, -np.inf), (1, np.inf), (1, np.nan):
        x, w = A(1, 2, 12, 12), A(3, 2, 3, 3)
        (x, w)[where][0, 0, 2, 1] = number
        with np.errstate(invalid="ignore"):
            y, wanted = Packed(Conv2d(), form, w.shape)(x, form(w)).numpy(), Conv2d().forward(x, w)
        assert not np.isfinite(wanted).all()
        assert np.allclose(y, wanted, equal_nan=True)


@pytest.mark.parametrize(
    "conv, channels",
    [
        (Conv2d((2, 1)), 6),
        (Conv2d(dilation=(1, 2)), 6),
        (Conv2d(groups=2), 3),
        (In(Conv2d((2, 2)), "NHWC", 6), 6),
    ],
)
def test_it_is_not_for_strides_and_groups(conv, channels):
    w, form = A(4, channels, 3, 3), Winograd(2, usual_points(2, 3), 1)
    with pytest.raises(ArgumentError, match="winograd: stride, dilation and groups must be 1"):
        Packed(conv, form, w.shape)(A(1, 6, 6, 6), form(w))


def test_a_graph_of_it_is_read_back():
    w = A(4, 3, 3, 3)
    form = Winograd(4, usual_points(4, 3), 2)
    graph = ti.trace(lambda x, w: Packed(Conv2d(), form, w.shape)(x, form(w)), A(1, 3, 6, 6), w)
    assert "winograd(%w, m=4, points=(0, 1, -1, 0.5, -2), vectors=2)" in str(graph)
    assert str(parse_graph(str(graph))) == str(graph)
