"""A recipe: everything about a training run but the model, the data and the seed."""

from dataclasses import dataclass

from .. import optim
from ..core.check import number, whole
from ..errors import ArgumentError

OPTIMIZERS = "sgd", "adam", "adamw"
SCHEDULES = "one-cycle", "cosine", "constant"

WHOLE = {"epochs": 1, "batch_size": 1, "shift": 0}  # field: the least it can be
NUMBERS = {
    "lr": "[0, 3e38]",  # what single precision has
    "momentum": "[0, 1)",
    "weight_decay": "[0, inf)",
    "rotate": "[0, 180]",
    "label_smoothing": "[0, 1]",
    "clip_norm": "(0, inf)",
}


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
        checked = {k: whole(f"recipe {k}", getattr(self, k), least) for k, least in WHOLE.items()}
        for field, n in checked.items():
            number(f"recipe {field}", n, "[0, 1e9]")
        for field, interval in NUMBERS.items():
            value = getattr(self, field)
            if value is not None or field != "clip_norm":
                checked[field] = number(f"recipe {field}", value, interval)
        vars(self).update(checked)  # as Python's own numbers: they are saved as JSON
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
        """For that many steps; None if the learning rate stays, as it does in a single step."""
        match self.schedule:
            case "one-cycle" if steps > 1:
                return optim.OneCycleLR(optimizer, self.lr, steps)
            case "cosine":
                return optim.CosineAnnealingLR(optimizer, steps)


def check_choice(field, value, choices):
    if value not in choices:
        raise ArgumentError(f"recipe {field}: {value!r}: choose from {', '.join(choices)}")
