import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from tinyinfer import data
from tinyinfer.data import idx
from tinyinfer.data.download import MNIST
from tinyinfer.errors import ArgumentError, DTypeError, LoadError, RangeError, ShapeError


def toy(n=4, **changes):
    fields = {
        "images": np.arange(n * 4, dtype=np.uint8).reshape(n, 1, 2, 2),
        "labels": np.arange(n) % 3,
        "peak": 255,
        "classes": ("a", "b", "c"),
        "name": "toy",
    }
    return data.Dataset(**fields | changes)


def test_digits_are_the_known_ones():
    train, test = data.digits()
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape == (1437, 1, 8, 8) and train.images.dtype == np.uint8
    assert (train.images.sum(), test.images.sum()) == (449120, 112598)
    assert np.bincount(train.labels).tolist() == [136, 154, 151, 135, 143, 143, 151, 153, 138, 133]
    assert np.bincount(test.labels).tolist() == [42, 28, 26, 48, 38, 39, 30, 26, 36, 47]
    assert train.peak == test.peak == train.images.max() == 16
    assert test.classes == tuple("0123456789") and test.name == "digits"


def test_the_test_digits_are_every_fifth():
    learn = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = data.digits()
    np.testing.assert_array_equal(test.images[:, 0], learn.images[::5])
    np.testing.assert_array_equal(test.labels, learn.target[::5])
    np.testing.assert_array_equal(train.images[:, 0], np.delete(learn.images, np.s_[::5], 0))
    np.testing.assert_array_equal(train.labels, np.delete(learn.target, np.s_[::5]))


mnist_here = pytest.mark.skipif(
    not Path(os.environ.get("TINYINFER_DATA", "/nowhere"), "mnist").is_dir(),
    reason="no folder mnist/ in TINYINFER_DATA",
)


@mnist_here
def test_mnist_is_the_known_one():
    train, test = data.mnist()
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.images.std() / 255 == pytest.approx(0.3081, abs=1e-4)
    assert np.bincount(test.labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert test.peak == 255 and test.name == "mnist"


@mnist_here
@pytest.mark.parametrize("file", MNIST.md5)
def test_mnist_has_the_checksums_we_ask_for(file):
    content = Path(os.environ["TINYINFER_DATA"], "mnist", file).read_bytes()
    assert hashlib.md5(content).hexdigest() == MNIST.md5[file]


def written(folder, images=3, labels=3):
    folder.mkdir()
    for half in ("train", "t10k"):
        idx.write(folder / f"{half}-images-idx3-ubyte.gz", np.ones((images, 28, 28), np.uint8))
        idx.write(folder / f"{half}-labels-idx1-ubyte.gz", np.arange(labels, dtype=np.uint8))


@pytest.mark.parametrize("name, first", [("mnist", "0"), ("fashion-mnist", "T-shirt/top")])
def test_a_folder_of_ones_own(tmp_path, name, first):
    written(tmp_path / name)
    for half in data.load(name, tmp_path):
        assert half.images.shape == (3, 1, 28, 28) and half.name == name
        assert len(half.classes) == 10 and half.classes[0] == first


def test_files_that_do_not_belong_together(tmp_path):
    written(tmp_path / "mnist", labels=2)
    with pytest.raises(ShapeError, match="one label an image"):
        data.mnist(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    written(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(LoadError, match=r"t10k-images-idx3-ubyte\.gz: .* downloaded again"):
        data.mnist(tmp_path)


def test_load_knows_three_names():
    train, test = data.load("digits")
    assert len(train) + len(test) == 1797
    with pytest.raises(ArgumentError, match="'cifar': choose from digits, mnist, fashion-mnist"):
        data.load("cifar")


def test_an_item_is_an_image_in_0_1_and_its_label():
    image, label = toy(peak=16)[3]
    assert image.dtype == np.float32 and type(label) is int and label == 0
    np.testing.assert_array_equal(image, np.float32([[[12, 13], [14, 15]]]) / 16)
    np.testing.assert_array_equal(toy()[-1][0], toy()[3][0])
    assert [label for _, label in toy()] == [0, 1, 2, 0]


@pytest.mark.parametrize("rows", [[2, 0], (2, 0), np.array([2, 0]), range(2, -1, -2)])
def test_a_subset_has_the_order_of_its_indices(rows):
    part = toy().subset(rows)
    assert part.labels.tolist() == [2, 0] and part.images[:, 0, 0, 0].tolist() == [8, 0]
    assert (part.peak, part.classes, part.name) == (255, ("a", "b", "c"), "toy")


def test_a_subset_by_mask_and_an_empty_one():
    assert toy().subset(np.array([True, False, True, False])).labels.tolist() == [0, 2]
    assert len(toy().subset([])) == 0


# fmt: off
REFUSED = [
    (RangeError, {"labels": np.array([0, 1, 3, 0])},            "toy: label 3 of image 2 .* 0 to 2"),
    (RangeError, {"labels": np.array([0, -1, 2, 0])},           "toy: label -1 of image 1"),
    (RangeError, {"peak": 14},                                  "a pixel is 15, white is 14"),
    (RangeError, {"peak": 0, "images": np.zeros((4, 1, 2, 2), np.uint8)}, "white is 0"),
    (ShapeError, {"labels": np.arange(3)},                      r"\(4, 1, 2, 2\) and \(3,\)"),
    (ShapeError, {"images": np.zeros((4, 2, 2), np.uint8)},     r"\(4, 2, 2\) and \(4,\)"),
    (DTypeError, {"images": np.zeros((4, 1, 2, 2))},            "not float64 and int64"),
    (DTypeError, {"labels": np.zeros(4, np.int32)},             "not uint8 and int32"),
]
# fmt: on


@pytest.mark.parametrize("error, changes, message", REFUSED)
def test_what_is_no_dataset_is_refused(error, changes, message):
    with pytest.raises(error, match=message):
        toy(**changes)


def test_indices_out_of_range():
    with pytest.raises(RangeError, match="toy, of 4 images: index 4"):
        toy()[4]
    with pytest.raises(RangeError, match="index 9"):
        toy().subset([0, 9])
