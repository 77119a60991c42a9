"""Labelled images: the digits inside this package, MNIST and Fashion-MNIST."""

from dataclasses import dataclass, replace
from functools import cached_property
from operator import index
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DTypeError, RangeError, ShapeError
from . import idx
from .download import FASHION_MNIST, MNIST, locate


@dataclass(frozen=True, eq=False)
class Dataset:
    """n images with a label each. `data[i]` is a float32 image in [0, 1], and its label.

    Raises ShapeError, DTypeError or RangeError for arrays that are not as said below.
    """

    images: np.ndarray  # uint8 (n, channels, height, width), from 0 to peak
    labels: np.ndarray  # int64 (n,), each a place in classes
    peak: int  # the value of white
    classes: tuple[str, ...]
    name: str

    def __post_init__(self):
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or labels.dtype != np.int64:
            raise DTypeError(
                f"{self.name}: images are uint8 and labels int64, not {images.dtype} and "
                f"{labels.dtype}: convert them with .astype(...)"
            )
        if images.ndim != 4 or labels.shape != images.shape[:1]:
            raise ShapeError(
                f"{self.name}: images are (n, channels, height, width) and labels (n,), not "
                f"{images.shape} and {labels.shape}: give one label an image"
            )
        strays = np.flatnonzero((labels < 0) | (labels >= len(self.classes)))
        if strays.size:
            raise RangeError(
                f"{self.name}: label {labels[strays[0]]} of image {strays[0]} is out of range: "
                f"{len(self.classes)} classes have the labels 0 to {len(self.classes) - 1}"
            )
        if not images.max(initial=0) <= self.peak or self.peak < 1:
            raise RangeError(
                f"{self.name}: a pixel is {images.max(initial=0)}, white is {self.peak}: "
                "give as peak the value of white, from 1 to 255"
            )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i) -> tuple[np.ndarray, int]:
        images, labels = self.batch([index(i)])
        return images[0], int(labels[0])

    def batch(self, rows, moves=(), rng=None) -> tuple[np.ndarray, np.ndarray]:
        """Of these rows, float32 images (b, channels, height, width) in [0, 1], and labels (b,).

        moves: transforms that move pixels, which are done first: bytes move in a third of the time.
        """
        rows = self._rows(rows)
        images = self.images[rows]
        for move in moves:
            images = move.apply(images, rng)
        return images / np.float32(self.peak), self.labels[rows]

    def subset(self, indices) -> "Dataset":
        """The images of these indices, in their order; or those where a mask is true."""
        rows = self._rows(indices)
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    @cached_property
    def _all(self):
        return np.arange(len(self))

    def _rows(self, indices):
        try:
            return self._all[np.asarray(indices) if len(indices) else []]
        except IndexError as error:
            raise RangeError(f"{self.name}, of {len(self)} images: {error}") from None


DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def digits() -> tuple[Dataset, Dataset]:
    """1,797 handwritten digits of 8x8 pixels, in 17 shades: 1,437 to train with, 360 to test.

    Every fifth image is for the test. Images of each writer are in both halves, so what is
    tested is a new image, not a new hand.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, doi 10.24432/C50P49, CC BY 4.0: its test set, the copy that scikit-learn ships.
    """
    here, remedy = Path(__file__).parent, "install tinyinfer again"
    images = idx.read(here / "digits-images-idx3-ubyte.gz", idx.IMAGES, remedy)
    labels = idx.read(here / "digits-labels-idx1-ubyte.gz", idx.LABELS, remedy)
    both = dataset(images, labels, 16, DIGITS, "digits")
    test = np.arange(len(both)) % 5 == 0
    return both.subset(~test), both.subset(test)


def mnist(root=None) -> tuple[Dataset, Dataset]:
    """70,000 handwritten digits of 28x28 pixels: 60,000 to train with, 10,000 to test.

    Looked for in `root` or $TINYINFER_DATA, as mnist/train-images-idx3-ubyte.gz and so on, then in
    the user's cache, else downloaded into it. Raises LoadError if that fails or a file is damaged.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document
    recognition, Proc. IEEE, 1998.
    """
    return halves(MNIST, DIGITS, root)


def fashion_mnist(root=None) -> tuple[Dataset, Dataset]:
    """70,000 photographs of clothes, of 28x28 pixels: 60,000 to train with, 10,000 to test.

    Found like `mnist`, in a folder fashion-mnist/.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747.
    """
    return halves(FASHION_MNIST, FASHION, root)


def halves(source, classes, root):
    def half(prefix):
        images = idx.read(locate(source, f"{prefix}-images-idx3-ubyte.gz", root), idx.IMAGES)
        labels = idx.read(locate(source, f"{prefix}-labels-idx1-ubyte.gz", root), idx.LABELS)
        return dataset(images, labels, 255, classes, source.name)

    return half("train"), half("t10k")


def dataset(images, labels, *rest):
    return Dataset(images[:, None], labels.astype(np.int64), *rest)


SETS = {"digits": lambda root: digits(), "mnist": mnist, "fashion-mnist": fashion_mnist}


def load(name, root=None) -> tuple[Dataset, Dataset]:
    """The training and the test set of that name. Raises ArgumentError if there is none."""
    if name not in SETS:
        raise ArgumentError(f"load: no data set {name!r}: choose from {', '.join(SETS)}")
    return SETS[name](root)
