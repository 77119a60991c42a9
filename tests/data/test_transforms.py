from math import cos, floor, radians, sin

import numpy as np
import pytest

from tinyinfer.data.transforms import (
    Compose,
    Fit,
    Normalize,
    Pad,
    RandomRotation,
    RandomShift,
    rotate,
)
from tinyinfer.errors import ArgumentError, DTypeError, ShapeError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    return rng.random((5, 2, 6, 7), dtype=np.float32)


EVERY = [
    Normalize(0.1, 0.3),
    Pad(2),
    Fit(20, 21),
    RandomShift(2),
    RandomRotation(15),
    Compose(Pad(1), RandomShift(1), Normalize((0.1, 0.2), 1)),
]


@pytest.mark.parametrize("transform", EVERY, ids=str)
def test_every_transform(transform, images):
    before = images.copy()
    once, twice = (transform(images, np.random.default_rng(3)) for _ in "ab")
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(images, before)
    assert once.dtype == np.float32 and once.shape[:2] == (5, 2)
    assert transform(images[:0], np.random.default_rng(3)).shape == (0, *once.shape[1:])
    with pytest.raises(DTypeError, match="not uint8"):
        transform(np.zeros((1, 1, 8, 8), np.uint8), None)
    with pytest.raises(ShapeError, match=r"not \(8, 8\)"):
        transform(np.zeros((8, 8), np.float32), None)


@pytest.mark.parametrize("transform", [RandomShift(1), RandomRotation(1), Compose(RandomShift(1))])
def test_chance_needs_a_generator(transform, images):
    with pytest.raises(ArgumentError, match="give rng"):
        transform(images)


def test_normalize(images):
    np.testing.assert_allclose(Normalize(0.5, 2)(images), (images - 0.5) / 2, rtol=1e-6)
    found = Normalize((0.5, 1), (2, 4))(images)
    np.testing.assert_allclose(found[:, 0], (images[:, 0] - 0.5) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], (images[:, 1] - 1) / 4, rtol=1e-6)
    with pytest.raises(ShapeError, match="one for each channel"):
        Normalize((0.1, 0.2, 0.3), 1)(images)
    with pytest.raises(ShapeError, match="one for each channel"):
        Normalize((0.1, 0.2), 1)(images[:, :1])


def test_pad(images):
    found = Pad(2)(images)
    assert found.shape == (5, 2, 10, 11)
    np.testing.assert_array_equal(found[:, :, 2:-2, 2:-2], images)
    assert found.sum(dtype=float) == pytest.approx(images.sum(dtype=float))


def test_fit_pads_what_does_not_fit_twice():
    x = np.ones((1, 1, 28, 28), np.float32)
    np.testing.assert_array_equal(Fit(32, 32)(x), Pad(2)(x))


def test_fit_repeats_pixels():
    x = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    np.testing.assert_array_equal(Fit(32, 32)(x)[0, 0], np.kron(x[0, 0], np.ones((4, 4))))


def test_fit_takes_the_smaller_factor_and_centres(images):
    found = Fit(13, 29)(images)
    inside = images.repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(found[:, :, :12, 7:21], inside)
    assert found.shape == (5, 2, 13, 29)
    assert np.count_nonzero(found) == np.count_nonzero(inside)


def test_fit_does_not_shrink(images):
    with pytest.raises(ShapeError, match=r"Fit\(height=5, width=9\): images of 6x7 are larger"):
        Fit(5, 9)(images)


def test_each_image_has_its_own_shift(rng):
    x = np.zeros((200, 2, 7, 7), np.float32)
    x[:, :, 3, 3] = 1, 2
    found = RandomShift(2)(x, rng)
    image, row, column = np.nonzero(found[:, 0])
    assert image.tolist() == list(range(200))
    np.testing.assert_array_equal(found[:, 1], 2 * found[:, 0])
    assert set(zip(row, column, strict=True)) == {(r, c) for r in range(1, 6) for c in range(1, 6)}


def test_shifts_bring_in_zeros(rng):
    found = RandomShift(3)(np.ones((100, 1, 4, 4), np.float32), rng)
    kept = [(4 - abs(dy)) * (4 - abs(dx)) for dy in range(-3, 4) for dx in range(-3, 4)]
    assert set(found.sum(axis=(1, 2, 3)).astype(int)) <= set(kept)
    assert found.min() == 0


def rotated(image, degrees):
    """The definition of `rotate`, pixel by pixel."""
    h, w = image.shape
    c, s = cos(radians(degrees)), sin(radians(degrees))
    result = np.zeros((h, w))
    for row in range(h):
        for column in range(w):
            dy, dx = row - (h - 1) / 2, column - (w - 1) / 2
            y, x = dx * s + dy * c + (h - 1) / 2, dx * c - dy * s + (w - 1) / 2
            for i in (floor(y), floor(y) + 1):
                for j in (floor(x), floor(x) + 1):
                    if 0 <= i < h and 0 <= j < w:
                        result[row, column] += image[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return result


def test_rotate_is_its_definition(images):
    degrees = [0, 10, -33.3, 77, 180]
    expected = [[rotated(plane, d) for plane in x] for x, d in zip(images, degrees, strict=True)]
    np.testing.assert_allclose(rotate(images, degrees), expected, atol=1e-5)


def test_rotation_is_counter_clockwise(rng):
    x = rng.random((2, 1, 5, 5), dtype=np.float32)
    np.testing.assert_allclose(rotate(x, [90, 90]), np.rot90(x, axes=(2, 3)), atol=1e-6)


def test_each_image_has_its_own_angle_within_bounds(images):
    same = np.repeat(images[:1], 50, axis=0)
    found = RandomRotation(20)(same, np.random.default_rng(1))
    assert len({x.tobytes() for x in found}) == 50
    angles = np.random.default_rng(1).uniform(-20, 20, 50)
    np.testing.assert_array_equal(found, rotate(same, angles))
    np.testing.assert_allclose(RandomRotation(0)(images, np.random.default_rng(1)), images)


def test_compose_goes_from_left_to_right(images):
    found = Compose(Pad(1), Normalize(1, 2))(images)
    np.testing.assert_array_equal(found, Normalize(1, 2)(Pad(1)(images)))
    assert (found[:, :, 0] == -0.5).all()
    np.testing.assert_array_equal(Compose()(images), images)
    assert Compose(Pad(1)) == Compose(Pad(1)) != Compose(Pad(2))


# fmt: off
REFUSED = [
    (Normalize,      (0, 0)),           (Normalize,      (0, -1)),
    (Normalize,      (0, (1, 0))),      (Normalize,      (float("nan"), 1)),
    (Normalize,      (0, float("nan"))),
    (Pad,            (-1,)),            (Pad,            (1.5,)),
    (Fit,            (0, 32)),          (Fit,            (32, 0)),
    (RandomShift,    (-1,)),            (RandomShift,    (0.5,)),
    (RandomRotation, (-1,)),            (RandomRotation, (float("nan"),)),
    (Compose,        (3,)),
]
# fmt: on


@pytest.mark.parametrize("transform, arguments", REFUSED)
def test_arguments_it_cannot_have(transform, arguments):
    with pytest.raises(ArgumentError, match=transform.__name__):
        transform(*arguments)
