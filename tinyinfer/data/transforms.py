"""What is done to a batch of images before it is learned from: `t(images, rng) -> images`.

Images are float32 (n, channels, height, width). What is random draws from `rng` alone.
"""

from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from ..core.check import whole
from ..errors import ArgumentError, DTypeError, ShapeError


class Transform:
    random = False
    moves = False  # pixels, and nothing else, with zeros from outside: `apply` takes bytes too

    def __call__(self, images, rng=None) -> np.ndarray:
        """`images`, transformed. Raises DTypeError or ShapeError if they are no such batch."""
        if images.dtype != np.float32:
            raise DTypeError(f"{self}: images are float32, not {images.dtype}: use .astype('f4')")
        if images.ndim != 4:
            raise ShapeError(f"{self}: images are (n, channels, height, width), not {images.shape}")
        if self.random and rng is None:
            raise ArgumentError(f"{self}: it is random: give rng, an np.random.Generator")
        return self.apply(images, rng)


@dataclass(frozen=True)
class Normalize(Transform):
    """(x - mean) / std, each one number, or one a channel."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __post_init__(self):
        if not np.all(np.isfinite(self.mean)) or not np.all(np.greater(self.std, 0)):
            raise ArgumentError(f"{self}: give finite means, and deviations above 0")

    def apply(self, images, rng):
        mean, std = (np.float32(v).reshape(-1, 1, 1) for v in (self.mean, self.std))
        if not {len(mean), len(std)} <= {1, images.shape[1]}:
            raise ShapeError(f"{self}: give one number, or one for each channel of {images.shape}")
        y = images - mean
        y /= std
        return y


@dataclass(frozen=True)
class Pad(Transform):
    """`pixels` of zeros on each of the four sides."""

    pixels: int
    moves = True

    def __post_init__(self):
        whole("Pad", self.pixels)

    def apply(self, images, rng):
        h, w = images.shape[2:]
        return amid_zeros(images, h + 2 * self.pixels, w + 2 * self.pixels)


def amid_zeros(images, height, width):
    """In the middle of height x width of them, or half a pixel above and left of it. Three times as
    fast as np.pad, which has many options."""
    n, c, h, w = images.shape
    top, left = (height - h) // 2, (width - w) // 2
    padded = np.zeros((n, c, height, width), images.dtype)
    padded[:, :, top : top + h, left : left + w] = images
    return padded


@dataclass(frozen=True)
class Fit(Transform):
    """To height x width: each pixel becomes the largest square that fits, then zeros around.

    28x28 in 32x32 gets a rim of 2; of 8x8, each pixel becomes 4x4. ShapeError if it is larger.
    """

    height: int
    width: int
    moves = True

    def __post_init__(self):
        whole("Fit height", self.height, 1)
        whole("Fit width", self.width, 1)

    def apply(self, images, rng):
        h, w = images.shape[2:]
        factor = min(self.height // h, self.width // w)
        if factor == 0:
            raise ShapeError(f"{self}: images of {h}x{w} are larger: give a larger size")
        if factor > 1:
            images = images.repeat(factor, axis=2).repeat(factor, axis=3)
        return amid_zeros(images, self.height, self.width)


@dataclass(frozen=True)
class RandomShift(Transform):
    """Each image by up to `pixels` whole pixels down or up, and right or left; zeros come in."""

    pixels: int
    random = moves = True

    def __post_init__(self):
        whole("RandomShift", self.pixels)

    def apply(self, images, rng):
        n, ways = len(images), 2 * self.pixels + 1
        padded = Pad(self.pixels).apply(images, rng)
        image, channel, *pixel = padded.strides
        shape, strides = images.shape[1:], (image, *pixel, channel, *pixel)
        windows = np.ndarray((n, ways, ways, *shape), images.dtype, padded, strides=strides)
        top, left = rng.integers(ways, size=(2, n))
        return windows[np.arange(n), top, left]


@dataclass(frozen=True)
class RandomRotation(Transform):
    """Each image by an angle of its own, from -degrees to degrees; zeros come in."""

    degrees: float
    random = True

    def __post_init__(self):
        if not 0 <= self.degrees <= 180:
            raise ArgumentError(f"{self}: give an angle from 0 to 180 degrees")

    def apply(self, images, rng):
        return rotate(images, rng.uniform(-self.degrees, self.degrees, len(images)))


def rotate(images, degrees):
    """Image i counter-clockwise by degrees[i] about its centre, bilinear, zeros outside.

    images: (n, channels, height, width); degrees: (n,).
    """
    n, c, h, w = images.shape
    cos, sin = (f(np.radians(degrees))[:, None, None] for f in (np.cos, np.sin))
    dy, dx = np.arange(h)[:, None] - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    # Where each pixel of the result comes from, in a picture with a rim of one zero.
    y = (dx * sin + dy * cos + (h + 1) / 2).clip(0, h + 1)
    x = (dx * cos - dy * sin + (w + 1) / 2).clip(0, w + 1)
    top, left = np.minimum(y.astype(int), h), np.minimum(x.astype(int), w)
    fy, fx = ((a - b).astype(images.dtype) for a, b in ((y, top), (x, left)))
    planes = Pad(1)(images).swapaxes(0, 1).reshape(c, -1)
    at = (np.arange(n)[:, None, None] * (h + 2) + top) * (w + 2) + left
    below = at + w + 2
    upper = planes.take(at, 1) * (1 - fx) + planes.take(at + 1, 1) * fx
    lower = planes.take(below, 1) * (1 - fx) + planes.take(below + 1, 1) * fx
    return (upper * (1 - fy) + lower * fy).swapaxes(0, 1)


@dataclass(frozen=True, init=False)
class Compose(Transform):
    """One after the other."""

    transforms: tuple

    def __init__(self, *transforms):
        for t in transforms:
            if not callable(t):
                raise ArgumentError(f"Compose: {t!r} is not a transform: give t(images, rng)")
        object.__setattr__(self, "transforms", transforms)

    def apply(self, images, rng):
        for t in self.transforms:
            images = t(images, rng)
        return images


def parted(transform):
    """(moves, rest): first what only moves pixels, then what is left of it, or None."""
    each = transform.transforms if isinstance(transform, Compose) else (transform,)
    moves = [*takewhile(lambda t: getattr(t, "moves", False), each)]
    return moves, Compose(*each[len(moves) :]) if moves else transform
