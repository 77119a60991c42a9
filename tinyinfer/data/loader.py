"""A data set, batch by batch. Batch b of epoch e is a function of (seed, e, b) alone: so a run
that was broken off goes on with exactly the batches it would have had."""

from concurrent.futures import ThreadPoolExecutor
from operator import index

import numpy as np

from ..core.check import whole
from ..core.tensor import tensor
from ..errors import ArgumentError, DTypeError, ShapeError
from ..kernels import threads
from .datasets import Dataset
from .transforms import parted


class DataLoader:
    """Batches of `dataset`: pairs of tensors, images float32 (b, c, h, w) and labels int64 (b,).

    Each `for x, y in loader` runs the next epoch: 0, 1, 2, ...; `next_epoch` may be set.
    dataset: a Dataset, or anything with a length whose items are pairs (image, label).
    transform: a function (images, rng) -> images of such a batch, as an array: see `transforms`.
    drop_last: leave out the last batch if it is smaller than the others.
    Raises ArgumentError for an option with a value it cannot have.
    """

    def __init__(
        self, dataset, batch_size=64, shuffle=False, seed=0, transform=None, drop_last=False
    ):
        if transform is not None and not callable(transform):
            raise ArgumentError(f"DataLoader: transform {transform!r} is not a t(images, rng)")
        self.dataset = dataset
        self.batch_size = whole("DataLoader batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = whole("DataLoader seed", seed)
        self.transform = transform
        self.drop_last = drop_last
        self.next_epoch = 0
        if not len(self):
            raise ArgumentError(
                f"DataLoader: {len(dataset)} images make no batch of {batch_size}: "
                "give a smaller batch_size, or more images"
            )

    def __len__(self):
        """How many batches an epoch has."""
        extra = 0 if self.drop_last else self.batch_size - 1
        return (len(self.dataset) + extra) // self.batch_size

    def __iter__(self):
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        return self.epoch(epoch)

    def epoch(self, epoch, start=0):
        """The batches of that epoch, the first `start` left out."""
        epoch, start = whole("DataLoader epoch", epoch), whole("DataLoader start", start)
        n = len(self.dataset)
        order = self._rng(epoch).permutation(n) if self.shuffle else np.arange(n)
        return (self._batch(order, epoch, b) for b in range(start, len(self)))

    def _batch(self, order, epoch, b):
        rows = order[b * self.batch_size :][: self.batch_size]
        rng = self.transform and self._rng(epoch, b)
        images, labels, transform = batch_of(self.dataset, rows, self.transform, rng)
        if transform:
            images = np.ascontiguousarray(transform(images, rng))
            made = f"DataLoader: the transform made {images.dtype}{list(images.shape)}"
            if len(images) != len(labels):
                raise ShapeError(f"{made} of {len(labels)} images: it has to give as many")
            if images.dtype != np.float32:
                raise DTypeError(f"{made}: images are float32: use .astype('float32')")
        return tensor(images), tensor(labels)

    def _rng(self, *place):
        seeds = np.random.SeedSequence(self.seed, spawn_key=place)
        return np.random.Generator(np.random.Philox(seeds))


def batch_of(dataset, rows, transform, rng):
    """Images, labels, and what of the transform is left to do."""
    if isinstance(dataset, Dataset):
        moves, rest = parted(transform)
        return *dataset.batch(rows, moves, rng), rest
    items = [dataset[i] for i in rows.tolist()]
    try:
        images, labels = zip(*items, strict=True)
        images = np.stack(images).astype(np.float32)
        return images, np.array([index(y) for y in labels]), transform
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"DataLoader: {error}: items are pairs of an image, all of one shape, and a whole number"
        ) from None


def ahead(batches):
    """The same batches: while one is in use, a thread makes the next, if a core is left for it."""
    if threads.chosen >= threads.cores():
        yield from batches
        return
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while batch := coming.result():
            coming = thread.submit(next, batches, None)
            yield batch
