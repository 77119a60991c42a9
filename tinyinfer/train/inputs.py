"""From the images of a data set to the input of a model."""

from math import ceil
from pathlib import Path

import numpy as np

from ..core.tensor import Tensor, tensor
from ..core.trace import no_grad
from ..data import DataLoader
from ..data.transforms import Compose, Fit, Normalize, RandomRotation, RandomShift
from ..errors import ShapeError

TEST_BATCH = 256  # at most


def normalization(dataset) -> Normalize:
    """To mean 0 and variance 1 in each channel, over the whole data set."""
    pixels, size = dataset.images, dataset.images[0, 0].size
    holds = np.min_scalar_type(
        size * dataset.peak**2
    )  # the sum over an image: twice as fast as int64
    squares = np.einsum("nchw,nchw->nc", pixels, pixels, dtype=holds, casting="safe")
    each = pixels.sum((2, 3), dtype=holds), squares
    mean, square = (x.sum(0, dtype=np.int64) / (len(pixels) * size) for x in each)
    std = np.sqrt(square - mean * mean)
    return Normalize(*(tuple((x / dataset.peak).tolist()) for x in (mean, std)))


def for_training(dataset, input_shape, normalize, recipe, seed) -> DataLoader:
    """Shuffled, and images move by chance as far as the recipe says."""
    moves = RandomRotation(recipe.rotate), RandomShift(recipe.shift)
    wanted = [move for move, size in zip(moves, (recipe.rotate, recipe.shift)) if size]
    transform = Compose(Fit(*input_shape[1:]), *wanted, normalize)
    return DataLoader(dataset, recipe.batch_size, shuffle=True, seed=seed, transform=transform)


def for_testing(dataset, input_shape, normalize) -> DataLoader:
    """In batches of one size, as nearly as can be: each kind of batch is compiled for itself."""
    batches = max(1, ceil(len(dataset) / TEST_BATCH))
    size = ceil(len(dataset) / batches)
    return DataLoader(dataset, size, transform=Compose(Fit(*input_shape[1:]), normalize))


def logits_of(model, images):
    """What the model makes of them. Raises ShapeError if that is not one tensor."""
    logits = model(images)
    if not isinstance(logits, Tensor):
        code = type(model).forward.__code__
        raise ShapeError(
            f"{Path(code.co_filename).name}, line {code.co_firstlineno}: this forward returned a "
            f"{type(logits).__name__}: end it with `return` and one tensor, (n, classes)"
        )
    return logits


def check(model, input_shape, dataset):
    """Try one image. Raises ShapeError if the model does not fit to the data."""
    images = dataset.batch([0])[0]
    if images.shape[1] != input_shape[0]:
        raise ShapeError(
            f"images of {dataset.name} have {images.shape[1]} channels, and the model's "
            f"input_shape {input_shape} has {input_shape[0]}"
        )
    with model.in_use(), no_grad(), np.errstate(all="ignore"):
        logits = logits_of(model, tensor(Fit(*input_shape[1:])(images)))
    if logits.shape != (1, len(dataset.classes)):
        raise ShapeError(
            f"{dataset.name} has {len(dataset.classes)} classes, and the model makes "
            f"{logits.shape} of one image: let it return (n, {len(dataset.classes)})"
        )
