"""A recipe: everything about a training run but the model, the data and the seed."""

from dataclasses import dataclass
from math import inf, isfinite

from .. import optim
from ..errors import ArgumentError

OPTIMIZERS = "sgd", "adam", "adamw"
SCHEDULES = "one-cycle", "cosine", "constant"

# fmt: off
LIMITS = {  # field: kind, from, up to
    "epochs":          (int,   1,   inf),
    "batch_size":      (int,   1,   inf),
    "lr":              (float, 0.0, inf),
    "momentum":        (float, 0.0, 1.0),
    "weight_decay":    (float, 0.0, inf),
    "shift":           (int,   0,   inf),
    "rotate":          (float, 0.0, 180.0),
    "label_smoothing": (float, 0.0, 1.0),
    "clip_norm":       (float, 0.0, inf),
}
# fmt: on


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Raises ArgumentError for a value that cannot be.

    `lr` is the highest learning rate: "one-cycle" climbs to it and falls to zero, "cosine" falls
    from it to zero, "constant" stays. `momentum` is of "sgd"; "adam" and "adamw" have their own.
    """

    epochs: int
    batch_size: int = 64
    lr: float = 0.05
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "one-cycle"
    shift: int = 0  # pixels of the model's input, down or up and right or left
    rotate: float = 0.0  # degrees, either way
    label_smoothing: float = 0.0
    clip_norm: float | None = None  # no gradient longer than this

    def __post_init__(self):
        for field, (kind, low, high) in LIMITS.items():
            check_number(field, getattr(self, field), kind, low, high)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)

    def make_optimizer(self, model) -> optim.Optimizer:
        options = {"lr": self.lr, "weight_decay": self.weight_decay}
        match self.optimizer:
            case "sgd":
                return optim.SGD(model.parameters(), momentum=self.momentum, **options)
            case "adam":
                return optim.Adam(model.parameters(), **options)
            case "adamw":
                return optim.AdamW(model.parameters(), **options)

    def make_schedule(self, optimizer, steps):
        """For that many steps; None if the learning rate stays."""
        match self.schedule:
            case "one-cycle":
                return optim.OneCycleLR(optimizer, self.lr, steps)
            case "cosine":
                return optim.CosineAnnealingLR(optimizer, steps)


def check_number(field, value, kind, low, high):
    if field == "clip_norm" and value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (kind is float and isinstance(value, float) and isfinite(value))):
        what = "a whole number" if kind is int else "a number"
        raise ArgumentError(f"recipe: {field} is {what}, not {value!r}")
    if not low <= value <= high:
        between = f"{low} or more" if high == inf else f"between {low} and {high}"
        raise ArgumentError(f"recipe: {field} is {value}, and must be {between}")


def check_choice(field, value, choices):
    if value not in choices:
        raise ArgumentError(f"recipe: {field} {value!r}: choose from {', '.join(choices)}")
