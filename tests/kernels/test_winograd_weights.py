"""The gradient by weights by Winograd against its definition."""

import numpy as np
import pytest
from kernel_check import agrees, carried_out

from tinyinfer.core.spec import spec_of
from tinyinfer.kernels import threads, winograd_weights
from tinyinfer.kernels.kernel import kernels_of
from tinyinfer.ops.conv import Conv2d, Conv2dWeight

RNG = np.random.RandomState(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype("f4")


def case(images, channels, height, width, filters, r=3, padding=((1, 1), (1, 1)), **more):
    """(op, g, x)"""
    conv = Conv2d(padding=padding, **more)
    x, w = floats(images, channels, height, width), np.empty((filters, channels, r, r), "f4")
    g = floats(*conv.infer(spec_of(x), spec_of(w)).shape)
    return Conv2dWeight(conv, w.shape), g, x


def find(op, *specs, m=4):
    return winograd_weights.find(op, *specs, m)


def right(op, g, x, m=4):
    return agrees(find, op, g, x, error=2e-6 + 10 * winograd_weights.error(m, op.shape[2]), m=m)


@pytest.mark.parametrize("m, r", [(2, 3), (4, 3), (6, 3), (4, 2), (2, 5), (4, 5)])
def test_against_the_definition(m, r):
    right(*case(2, 20, 11, 9, 33, r, padding=((r // 2, r // 2),) * 2), m)


@pytest.mark.parametrize("channels, filters", [(1, 1), (3, 32), (16, 7), (40, 17), (33, 64)])
def test_channels_and_filters(channels, filters):
    right(*case(3, channels, 10, 7, filters))


def test_odd_shapes():
    for size in range(1, 12):
        for padding in (0, 1, 2):
            height, width = size, max(1, 12 - size)
            if min(height, width) + 2 * padding < 3:
                continue
            op, g, x = case(1 + size % 3, 20, height, width, 16, padding=((padding, padding),) * 2)
            if all(padding < n + 2 * padding - 2 and 2 - padding < n for n in (height, width)):
                right(op, g, x)
            else:  # some weights meet nothing but padding: their gradient is 0, without an error
                assert find(op, *map(spec_of, (op.forward(g, x), g, x))) is None


def test_uneven_padding_and_no_images():
    right(*case(2, 20, 8, 9, 16, padding=((0, 2), (2, 0))))
    op, g, x = case(0, 20, 8, 9, 16)
    assert find(op, *map(spec_of, (op.forward(g, x), g, x))) is None


def test_what_lies_elsewhere_is_read():
    op, g, x = case(2, 20, 11, 9, 16)
    right(op, np.repeat(g, 2, axis=3)[..., ::2], np.asfortranarray(x))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(wrong):
    """Where they would be by the definition, and nowhere else."""
    for which, place in (0, (1, 3, 2, 5)), (1, (0, 7, 10, 8)), (1, (1, 19, 0, 0)):
        op, *given = case(2, 20, 11, 9, 33)
        given[which][place] = wrong
        right(op, *given)


def test_numbers_too_large_for_the_transforms():
    op, g, x = case(1, 20, 11, 9, 16)
    right(op, np.abs(g) * np.float32(1e-3), x * np.float32(3e37))


@pytest.mark.parametrize("channels, filters", [(20, 70), (70, 20)])
def test_in_parts(channels, filters, monkeypatch):
    """Of filters or of channels: the same numbers, bit for bit."""
    op, g, x = case(3, channels, 17, 18, filters)
    specs = op.infer(spec_of(g), spec_of(x)), spec_of(g), spec_of(x)
    alone = carried_out(find(op, *specs), op, g, x)
    monkeypatch.setattr(threads, "GRAIN", 1)
    for several in 2, 3, 7:
        monkeypatch.setattr(threads, "chosen", several)
        assert carried_out(find(op, *specs), op, g, x).tobytes() == alone.tobytes()


def test_what_it_does_not_serve():
    for op, g, x in (
        case(2, 8, 11, 9, 16, stride=(2, 2)),
        case(2, 8, 11, 9, 16, dilation=(2, 2)),
        case(2, 8, 11, 9, 16, r=1),
    ):
        assert find(op, *map(spec_of, (op.forward(g, x), g, x))) is None
    op, g, x = case(2, 8, 11, 9, 16)
    assert find(op, *(spec_of(a.astype("f8")) for a in (op.forward(g, x), g, x))) is None


def test_it_is_chosen_where_it_pays():
    op, g, x = case(64, 64, 16, 16, 64)
    specs = op.infer(spec_of(g), spec_of(x)), spec_of(g), spec_of(x)
    native = [k for k in kernels_of(op, *specs) if k.cost and k.error <= 2e-6]
    assert min(native, key=lambda k: k.cost.work).name == "Winograd F(4, 3)"
