"""Learning rates over time. A schedule is a function of the number of steps taken; `.step()` comes
after the optimizer's, once a batch or once an epoch: whichever its numbers count."""

from bisect import bisect_right
from math import cos, pi

from ..core.check import number, whole
from ..core.trace import mode
from ..errors import ArgumentError, GraphError, LoadError


class LRScheduler:
    """Every group's learning rate is `lr(t, base)`: t the steps taken, `base` what the
    optimizer was given.

    One schedule drives an optimizer; SequentialLR makes one of several.
    """

    def __init__(self, optimizer):
        self.optimizer, self.last_epoch = optimizer, 0
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._apply()

    def lr(self, t, base) -> float:
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The learning rates now, one for each group."""
        return [self.lr(self.last_epoch, base) for base in self.base_lrs]

    def _apply(self):
        for group, lr in zip(self.optimizer.param_groups, self.get_last_lr()):
            group["lr"].assign(lr)

    def step(self):
        if mode.trace:
            raise GraphError("a schedule counts in Python: step it after the traced function")
        self.last_epoch += 1
        self._apply()

    def state_dict(self) -> dict:
        """The steps taken and the first learning rates: plain numbers."""
        return {"last_epoch": self.last_epoch, "base_lrs": [*self.base_lrs]}

    def load_state_dict(self, state_dict):
        """Go on from there. Raises LoadError if that was another number of groups."""
        if {*state_dict} != {"last_epoch", "base_lrs"}:
            raise LoadError(f"a schedule has last_epoch and base_lrs, not {', '.join(state_dict)}")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise LoadError(
                f"{len(state_dict['base_lrs'])} learning rates for {len(self.base_lrs)} groups"
            )
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], [*state_dict["base_lrs"]]
        self._apply()


class ConstantLR(LRScheduler):
    """lr = factor base for `total_iters` steps, then base"""

    def __init__(self, optimizer, factor=1 / 3, total_iters=5):
        self.factor, self.total_iters = factor, whole("ConstantLR total_iters", total_iters)
        super().__init__(optimizer)

    def lr(self, t, base):
        return base * self.factor if t < self.total_iters else base


class LinearLR(LRScheduler):
    """From start_factor base to end_factor base in `total_iters` equal steps, then as it is: warm-up"""

    def __init__(self, optimizer, start_factor=1 / 3, end_factor=1.0, total_iters=5):
        self.start, self.end = start_factor, end_factor
        self.total_iters = whole("LinearLR total_iters", total_iters, 1)
        super().__init__(optimizer)

    def lr(self, t, base):
        return base * (self.start + (self.end - self.start) * min(t / self.total_iters, 1))


class StepLR(LRScheduler):
    """lr = base gamma^k, where k is how often `step_size` steps were taken"""

    def __init__(self, optimizer, step_size, gamma=0.1):
        self.step_size, self.gamma = whole("StepLR step_size", step_size, 1), gamma
        super().__init__(optimizer)

    def lr(self, t, base):
        return base * self.gamma ** (t // self.step_size)


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) (1 + cos(pi t / T_max)) / 2: half a wave down in `T_max` steps.

    Loshchilov and Hutter 2016.
    """

    def __init__(self, optimizer, T_max, eta_min=0.0):
        self.T_max, self.eta_min = whole("CosineAnnealingLR T_max", T_max, 1), eta_min
        super().__init__(optimizer)

    def lr(self, t, base):
        return wave(base, self.eta_min, t / self.T_max)


class OneCycleLR(LRScheduler):
    """From max_lr / div_factor up to max_lr in the first `pct_start` of `total_steps`, then down to
    max_lr / div_factor / final_div_factor, both along half a wave; there it stays.

    Smith and Topin 2017, in two phases. The optimizer's own learning rate does not matter, and the
    momentum stays as it is.
    """

    def __init__(
        self, optimizer, max_lr, total_steps, pct_start=0.3, div_factor=25.0, final_div_factor=1e4
    ):
        self.last = whole("OneCycleLR total_steps", total_steps, 1) - 1
        self.top = number("OneCycleLR pct_start", pct_start, "[0, 1)") * total_steps - 1
        self.low, self.high = max_lr / div_factor, max_lr
        self.end = self.low / final_div_factor
        super().__init__(optimizer)

    def lr(self, t, base):
        if t < self.top:
            return wave(self.low, self.high, t / self.top)
        return wave(self.high, self.end, min((t - self.top) / (self.last - self.top), 1))


class SequentialLR(LRScheduler):
    """One schedule after the other: the next begins, counting from 0, at each of the milestones.

    SequentialLR(optimizer, [LinearLR(optimizer, 0.01, total_iters=5), CosineAnnealingLR(optimizer,
    95)], milestones=[5]) warms up in 5 steps, and then follows half a wave.
    """

    def __init__(self, optimizer, schedulers, milestones):
        if len(milestones) != len(schedulers) - 1 or sorted(milestones) != [*milestones]:
            raise ArgumentError(
                f"{len(schedulers)} schedules have {len(schedulers) - 1} milestones between them, in "
                f"order: not {milestones}"
            )
        self.schedulers, self.milestones = schedulers, milestones
        super().__init__(optimizer)

    def lr(self, t, base):
        k = bisect_right(self.milestones, t)
        return self.schedulers[k].lr(t - [0, *self.milestones][k], base)


def wave(a, b, x):
    """From a to b along half a cosine wave, as x goes from 0 to 1."""
    return b + (a - b) * (1 + cos(pi * x)) / 2
