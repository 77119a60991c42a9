"""The training loop: one run, one batch at a time."""

from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite
from time import perf_counter

import numpy as np

from ..core.tensor import tensor
from ..core.trace import no_grad
from ..data import ahead
from ..errors import ArgumentError, GraphError, NonFiniteError
from ..kernels.threads import chosen_threads
from ..nn.utils import clip_grad_norm_
from ..ops import cross_entropy
from ..runtime.compile import compile
from . import inputs
from .nonfinite import Watch


@dataclass
class Sums:
    """Of the running epoch. Python's floats go through JSON and back without a change."""

    images: int = 0
    loss: float = 0.0
    right: int = 0
    seconds: float = 0.0


WORTH = 50_000  # images to learn from: then compiling takes less time than it saves
METRICS = "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"


class Run:
    """A model in training on a data set: `while not run.done: run.step()`.

    What the next step depends on is in model, optimizer, schedule, epoch, batch, sums and the
    random key, and nowhere else: a run that is saved and restored between two steps goes on as if
    nothing had been, bit for bit.

    train, test: Datasets; input_shape: (channels, rows, columns) that the model takes.
    seed: of the order and the moves of the images; the first values of the model are not drawn
    here. With debug_nan a NonFiniteError names the first op that made a NaN or an infinity.
    compiled: a step, and the testing, is one function by ti.compile, so that what the model does
    in Python it does once; the same to rounding. By default if 50,000 images or more are learned
    from, counted anew in every epoch; so too for the batch at the end of an epoch that is smaller than
    the others, which Python runs if there are less of its images. With debug_nan nothing is.
    Raises ShapeError if the model does not fit to the data.
    """

    def __init__(
        self, model, recipe, train, test, input_shape, seed=0, debug_nan=False, compiled=None
    ):
        inputs.check(model, input_shape, train)
        self.model, self.recipe, self.train, self.test = model, recipe, train, test
        self.input_shape, self.seed = tuple(input_shape), seed
        self.normalize = inputs.normalization(train)
        self.training = inputs.for_training(train, input_shape, self.normalize, recipe, seed)
        self.testing = inputs.for_testing(test, input_shape, self.normalize)
        self.optimizer = recipe.make_optimizer(model)
        self.schedule = recipe.make_schedule(self.optimizer, self.steps)
        self.watch = Watch(self) if debug_nan else nullcontext()
        worth = lambda images: recipe.epochs * images >= WORTH
        self.compiled = worth(len(train)) if compiled is None else compiled
        faster = compile if self.compiled and not debug_nan else lambda fn: fn
        step = step_of(model, self.optimizer, recipe)
        self.learn, self.in_use = faster(step), faster(model)
        self.size = min(recipe.batch_size, len(train))
        self.learn_rest = self.learn if worth(len(train) % self.size) else step
        self.sums, self.rows = Sums(), []
        self.scores = None  # of the last test that this process made
        self.go_to(0, 0)

    @property
    def steps(self) -> int:
        """All of them, from the first epoch to the last."""
        return self.recipe.epochs * len(self.training)

    @property
    def steps_done(self) -> int:
        return self.epoch * len(self.training) + self.batch

    @property
    def done(self) -> bool:
        return self.epoch == self.recipe.epochs

    def go_to(self, epoch, batch):
        """Make that the next step. Raises ArgumentError if the run has no such step."""
        first = epoch * len(self.training) + batch
        if not (0 <= epoch and 0 <= batch < len(self.training) and first <= self.steps):
            raise ArgumentError(f"there is no epoch {epoch}, batch {batch} in {self.recipe}")
        self.epoch, self.batch = epoch, batch
        self.batches = ahead(self.training.epoch(epoch, start=batch))

    def step(self):
        """Learn from one batch. After the last one of an epoch, test, and add a row to `rows`.

        Raises NonFiniteError if the loss is no number any more; the model is then as good as lost.
        """
        start = perf_counter()
        last = self.batch + 1 == len(self.training)
        try:
            with np.errstate(all="ignore"), self.watch:  # a NaN is found by looking at the loss
                self.model.train()
                images, labels = next(self.batches)
                learn = self.learn if len(labels) == self.size else self.learn_rest
                self.count(labels, *learn(images, labels))
                scores = self.examine() if last else None
        except GraphError as error:
            if self.compiled:
                error.args = (f"{error}; or train it with --no-compile, as Python runs it",)
            raise
        self.batch += 1
        self.sums.seconds += perf_counter() - start
        if last:
            self.finish_epoch(scores)

    def count(self, labels, loss, told, logits):
        self.expect_finite("the loss", loss.item())
        if self.schedule:
            self.schedule.step()
        self.sums.images += len(labels)
        self.sums.loss += told.item() * len(labels)
        self.sums.right += int((logits.numpy().argmax(1) == labels.numpy()).sum())

    def examine(self):
        self.scores = evaluate(self.in_use, self.testing)
        self.expect_finite("the test loss", self.scores.loss)
        return self.scores

    def finish_epoch(self, scores):
        sums = self.sums
        train = sums.loss / sums.images, sums.right / sums.images
        row = self.epoch + 1, *train, scores.loss, scores.accuracy, sums.seconds
        self.rows.append(dict(zip(METRICS, row)))
        self.sums = Sums()
        self.go_to(self.epoch + 1, 0)

    def expect_finite(self, what, value):
        if not isfinite(value):
            watched = isinstance(self.watch, Watch)
            cause = self.watch.cause() if watched else "--debug-nan names the op that made it first"
            raise NonFiniteError(
                f"epoch {self.epoch + 1}, step {self.batch + 1}: {what} is {value}: lower the "
                f"learning rate, or set clip_norm in the recipe; {cause}"
            )


def step_of(model, optimizer, recipe):
    """A function that learns from a batch. It returns the loss; the loss to be told beside the test
    loss; and the logits."""

    def step(images, labels):
        optimizer.zero_grad()
        logits = inputs.logits_of(model, images)
        told = loss = cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        if recipe.clip_norm is not None:
            clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        if recipe.label_smoothing:  # which the test loss has not
            told = cross_entropy(logits.detach(), labels)
        return loss, told, logits

    return step


@dataclass(frozen=True)
class Scores:
    """What a model makes of n images."""

    loss: float  # mean cross-entropy
    predicted: np.ndarray  # int64 (n,): the class with the highest probability
    confidence: np.ndarray  # float32 (n,): that probability
    labels: np.ndarray  # int64 (n,): the truth

    @property
    def right(self) -> int:
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        return self.right / len(self.labels)


def evaluate(model, loader) -> Scores:
    """Of all images of the loader, as the model is in use."""
    with model.in_use(), no_grad(), chosen_threads, np.errstate(all="ignore"):
        pairs = [
            (inputs.logits_of(model, images).numpy(), labels.numpy())
            for images, labels in ahead(loader.epoch(0))
        ]
        logits, labels = (tensor(np.concatenate(x)) for x in zip(*pairs))
        loss = cross_entropy(logits, labels).item()
        probabilities = logits.softmax(1).numpy()
    return Scores(loss, probabilities.argmax(1), probabilities.max(1), labels.numpy())
