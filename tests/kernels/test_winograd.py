"""Winograd's convolution against the definition of a convolution, and what its transforms take."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from kernel_check import carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import threads, winograd, winograd_filters
from tinyinfer.kernels.combine import shared
from tinyinfer.ops.conv import Conv2d, Conv2dInput
from tinyinfer.ops.layout import In, Reorder
from tinyinfer.ops.packed import Packed, Turned
from tinyinfer.ops.winograd import Winograd, toom_cook, usual_points

RNG = np.random.RandomState(0)
SAME = Conv2d(padding=((1, 1), (1, 1)))
LAYOUTS = (None, None), ("NCHW16c", None), ("NCHW16c", "NCHW")


@pytest.fixture(autouse=True)
def one_tile(monkeypatch):
    """Few of them, since each is compiled."""
    monkeypatch.setattr(winograd, "shape", lambda widths, blocks: (3, 2))


def floats(*shape):
    return RNG.standard_normal(shape).astype("f4")


def form_of(m, r, points=None):
    return Winograd(m, points or usual_points(m, r), 2)


def packed(op, x, w, m, layout=None, source=None, points=None):
    """(op, image, packed filters) in these layouts."""
    gradient = isinstance(op, Conv2dInput)
    form = form_of(m, w.shape[2], points)
    form = Turned(form) if gradient else form
    if layout:
        op = In(op, layout, x.shape[1], source)
        x = x if source else Reorder("NCHW", layout).forward(x)
    return Packed(op, form, w.shape), x, form.forward(w)


def kernel_and_result(op, x, p, **end):
    kernel = winograd.find(op, op.infer(spec_of(x), spec_of(p)), spec_of(x), spec_of(p), **end)
    assert kernel is not None, f"no kernel for {op}"
    return kernel, carried_out(kernel, op, x, p)


def agrees(op, x, w, m, layout=None, source=None, points=None):
    """With the definition, in double precision; NaN and infinity in their places."""
    packed_op, image, p = packed(op, x, w, m, layout, source, points)
    kernel, y = kernel_and_result(packed_op, image, p)
    with np.errstate(invalid="ignore"):
        wanted = op.forward(x.astype(np.float64), w.astype(np.float64))
    if layout:
        wanted = Reorder("NCHW", layout).forward(wanted)
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    finite = np.isfinite(wanted)
    assert np.array_equal(y[~finite], wanted[~finite], equal_nan=True)
    far = np.abs(y[finite] - wanted[finite]).max(initial=0)
    assert far <= (2e-6 + 10 * kernel.error) * np.abs(wanted[finite]).max(initial=1e-30), far


@pytest.mark.parametrize("m, r", [(2, 3), (4, 3), (6, 3), (4, 2), (2, 5), (1, 3)])
def test_against_the_definition(m, r):
    conv = Conv2d(padding=((r // 2, r // 2),) * 2)
    agrees(conv, floats(2, 20, 11, 9), floats(33, 20, r, r), m)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_layouts(layout):
    agrees(SAME, floats(2, 20, 11, 9), floats(33, 20, 3, 3), 4, *layout)


def test_other_tiles(monkeypatch):
    """As many rows as there are tiles, and those that the CPU has registers for; one vector of filters."""
    monkeypatch.undo()
    x, w = floats(2, 20, 18, 13), floats(16, 20, 3, 3)
    y = SAME.infer(spec_of(x), spec_of(w))
    form = [*winograd.forms(SAME, y, spec_of(x), spec_of(w))][1]
    assert form.vectors == 1
    kernel, y = kernel_and_result(Packed(SAME, form, w.shape), x, form.forward(w))
    np.testing.assert_allclose(y, SAME.forward(x, w), rtol=0, atol=1e-4)


def shapes():
    """Images, padding and channels: each of them with some of the others."""
    sizes, paddings, channels = range(1, 18), (0, 1, 2), (1, 7, 16, 17, 32, 40)
    for i, (size, padding) in enumerate(product(sizes, paddings)):
        if size + 2 * padding >= 3:
            yield size, 1 + 7 * size % 17, padding, channels[i % 6], channels[i * 5 % 7 % 6]


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_odd_shapes(layout):
    for height, width, padding, c, o in shapes():
        width = max(width, 3 - 2 * padding)
        conv = Conv2d(padding=((padding, padding),) * 2)
        x, w = floats(1 + height % 3, c, height, width), floats(min(o, 16), c, 3, 3)
        if all(padding < n + 2 * padding - 2 and 2 - padding < n for n in (height, width)):
            agrees(conv, x, w, 4, *layout)
        else:  # some weights meet nothing but padding
            op, image, p = packed(conv, x, w, 4, *layout)
            specs = spec_of(image), spec_of(p)
            assert winograd.find(op, op.infer(*specs), *specs) is None


def test_uneven_padding_and_images_without_pixels():
    agrees(Conv2d(padding=((0, 2), (3, 0))), floats(2, 20, 5, 6), floats(33, 20, 3, 3), 2)
    op, x, p = packed(SAME, floats(0, 20, 5, 6), floats(33, 20, 3, 3), 2)
    assert winograd.find(op, op.infer(spec_of(x), spec_of(p)), spec_of(x), spec_of(p)) is None


def test_what_lies_elsewhere_is_read():
    agrees(SAME, floats(2, 20, 11, 18)[..., ::2], floats(33, 20, 3, 3), 4)


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_gradient_by_the_image(padding, layout):
    conv = Conv2d(padding=((padding, padding),) * 2)
    g, w = floats(2, 33, 11, 9), floats(33, 20, 3, 3)
    shape = 2, 20, 13 - 2 * padding, 11 - 2 * padding
    agrees(Conv2dInput(conv, shape), g, w, 4, *layout)


def test_what_it_does_not_serve():
    x, w = floats(1, 16, 9, 9), floats(16, 16, 3, 3)
    form = form_of(2, 3)
    wide_padding = Conv2dInput(Conv2d(padding=((3, 3), (3, 3))), (1, 16, 5, 5))
    for op in (Conv2d((2, 1)), Conv2d(dilation=(2, 2)), In(SAME, "NHWC", 16), wide_padding):
        packed_op = Packed(op, form, w.shape)
        specs = spec_of(x), spec_of(form.forward(w))
        assert winograd.find(packed_op, None, *specs) is None
        assert not [*winograd.forms(op, None, spec_of(x), spec_of(w))]
    doubles = spec_of(x.astype("f8")), spec_of(form.forward(w.astype("f8")))
    assert winograd.find(Packed(SAME, form, w.shape), None, *doubles) is None


def test_forms_are_served():
    x, w = spec_of(floats(1, 20, 9, 9)), spec_of(floats(33, 20, 3, 3))
    gradient = Conv2dInput(SAME, x.shape)
    for op, image in (SAME, x), (gradient, spec_of(floats(1, 33, 9, 9))):
        y = op.infer(image, w)
        found = [winograd.find(Packed(op, form, w.shape), y, image, form.infer(w))
                 for form in winograd.forms(op, y, image, w)]  # fmt: skip
        assert [k.name for k in found] == [
            "Winograd F(2, 3)",
            "Winograd F(4, 3)",
            "Winograd F(6, 3)",
        ]
        assert [k.error for k in found] == pytest.approx([2.2e-7, 8.8e-7, 2.9e-6], rel=0.1)


# Numbers that are none


@pytest.mark.parametrize("m, layout", [(2, None), (4, None), (6, None), (4, "NCHW16c")])
def test_numbers_that_are_none(m, layout):
    """Where they would be by the definition, and nowhere else."""
    x, w = floats(2, 20, 11, 9), floats(33, 20, 3, 3)
    w[:, :, 1, 2] = 0  # of which infinity makes NaN
    x[0, 3, 2, 2], x[0, 7, 4, 6], x[1, 19, 10, 8], x[1, 2, 0, 3] = np.nan, np.inf, -np.inf, np.inf
    agrees(SAME, x, w, m, layout)


def test_filters_that_are_none():
    x, w = floats(1, 20, 5, 7), floats(33, 20, 3, 3)
    w[5, 0, 0, 0], w[17, 3, 1, 1], w[20, 19, 2, 0] = np.nan, np.inf, -np.inf
    w[17, 4], x[0, 3, 2, 2] = 0, 0  # of which infinity makes NaN
    agrees(SAME, x, w, 4)
    agrees(SAME, x, w, 4, "NCHW16c")


def test_numbers_too_large_for_the_transforms():
    x, w = floats(1, 20, 11, 9) * np.float32(3e37), np.abs(floats(33, 20, 3, 3)) * np.float32(1e-3)
    agrees(SAME, x, w, 4)


# What is fused, threads, cost


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
def test_with_a_bias_and_an_activation(layout):
    x, w, bias = floats(2, 20, 11, 9), floats(33, 20, 3, 3), floats(33)
    x[0, 3, 2, 2], x[1, 3, 2, 2] = np.nan, np.inf
    op, image, p = packed(SAME, x, w, 4, *layout)
    specs = op.infer(spec_of(image), spec_of(p)), spec_of(image), spec_of(p)
    kernel = winograd.find(op, *specs, bias=spec_of(bias), activation="relu")
    y = np.full(specs[0].shape, np.nan, "f4")
    kernel.run(y, image, p, bias, *[np.full(s.shape, np.nan, "f4") for s in kernel.scratch])
    with np.errstate(invalid="ignore"):
        wanted = np.maximum(SAME.forward(x, w) + bias.reshape(-1, 1, 1), 0)
    if layout[0]:
        wanted = Reorder("NCHW", "NCHW16c").forward(wanted)
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lines, columns", [(1, 3), (2, 5), (5, 5)])
def test_in_blocks_and_in_parts(lines, columns, monkeypatch):
    """The same numbers, bit for bit, however many threads there are; also parts of the filters."""
    monkeypatch.setattr(winograd, "block_of", lambda *args: (lines, columns))
    x, w = floats(3, 20, 17, 18), floats(70, 20, 3, 3)
    x[0, 3, 2, 2] = np.nan
    op, x, p = packed(SAME, x, w, 4)
    _, alone = kernel_and_result(op, x, p)
    monkeypatch.setattr(threads, "GRAIN", 1)
    for several, split in (2, 1), (3, 3), (4, 2), (2, 2):
        monkeypatch.setattr(threads, "chosen", several)
        monkeypatch.setattr(winograd, "shares", lambda *args, n=(several, split): n)
        _, y = kernel_and_result(op, x, p)
        assert y.tobytes() == alone.tobytes()


def test_threads_share_tiles_or_filters(monkeypatch):
    monkeypatch.setattr(threads, "chosen", 2)
    assert winograd.shares(14, (2, 36, 64, 32), 14) == (2, 1)
    assert winograd.shares(7, (4, 36, 128, 32), 7) == (2, 2)
    assert winograd.shares(1, (1, 36, 16, 32), 1) == (1, 1)


def test_what_it_should_cost(monkeypatch):
    """Few pixels and large filters: those of F(4, 3) take longer to read than they save."""
    monkeypatch.undo()

    def seconds(n, c, size):
        x, w = spec_of(np.empty((n, c, size, size), "f4")), spec_of(np.empty((c, c, 3, 3), "f4"))
        kernels = [winograd.find(Packed(SAME, f, w.shape), x, x, f.infer(w))
                   for f in winograd.forms(SAME, x, x, w)]  # fmt: skip
        costs = [k.cost for k in kernels]
        return [c.flops / (c.efficiency * 2.4e11) + c.bytes / 3.7e10 for c in costs]

    best = lambda *size: np.argmin(seconds(*size)[:2])
    assert best(1, 512, 7) == 0
    assert best(8, 512, 7) == best(1, 256, 14) == best(1, 128, 28) == 1


# The transforms


@pytest.mark.parametrize("m, r", [(2, 3), (4, 3), (2, 5)])
@pytest.mark.parametrize("turned", [False, True])
def test_filters_are_transformed(m, r, turned):
    """As by the definition, in double precision: but where a number lies just between two floats."""
    w, form = floats(33, 20, r, r), form_of(m, r)
    form = Turned(form) if turned else form
    kernel = winograd_filters.find(form, form.infer(spec_of(w)), spec_of(w))
    p, wanted = carried_out(kernel, form, w), form.forward(w)
    np.testing.assert_allclose(p, wanted, rtol=2e-7, atol=1e-12)
    assert np.mean(p != wanted) < 1e-2


def value(matrix, x):
    x = [*x]
    for i, j, q in matrix.steps:
        x.append(x[i] + q * x[j])
    return [sum(a * x[i] for i, a in row.items()) for row in matrix.rows]


@pytest.mark.parametrize("m, r", [(2, 3), (4, 3), (6, 3), (4, 2), (4, 5), (3, 3)])
def test_what_rows_share_changes_nothing(m, r):
    for matrix in toom_cook(m, r, usual_points(m, r)):
        x = [Fraction(int(k) ** 3, 7) for k in range(len(matrix[0]))]
        assert value(shared(matrix), x) == [*(matrix @ x)]


def test_instructions():
    """Those that the module tells of."""
    counts = {
        (2, (0, 1, -1)): (4, 4),
        (4, (0, 1, -1, 2, -2)): (12, 10),
        (4, (0, 1, -1, 0.5, -2)): (16, 12),
        (6, (0, 1, -1, 2, -2, 0.5, -0.5)): (24, 20),
    }
    for (m, points), count in counts.items():
        outputs, _, inputs = toom_cook(m, 3, points)
        assert (shared(inputs).instructions, shared(outputs).instructions) == count
