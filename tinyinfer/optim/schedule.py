"""Learning rates over time. A schedule is a factor for the first learning rate, as a function of
the number of steps taken; `.step()` after each optimizer step (or epoch: whichever is counted)."""

from math import cos, pi

from ..errors import ArgumentError


class Schedule:
    """The learning rate of every group is `factor(steps taken)` times what it was at first."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.first = [group["lr"].item() for group in optimizer.groups]
        self.count = 0
        self.apply()

    def factor(self, t) -> float:
        raise NotImplementedError

    def apply(self):
        for group, lr in zip(self.optimizer.groups, self.first):
            group["lr"].assign(lr * self.factor(self.count))

    def step(self):
        self.count += 1
        self.apply()

    def state_dict(self) -> dict:
        return {"count": self.count, "first": self.first}

    def load_state_dict(self, state):
        self.count, self.first = state["count"], list(state["first"])
        self.apply()


class ConstantLR(Schedule):
    """As it is."""

    def factor(self, t):
        return 1.0


class StepLR(Schedule):
    """Times `gamma` after every `step_size` steps."""

    def __init__(self, optimizer, step_size, gamma=0.1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, t):
        return self.gamma ** (t // self.step_size)


class CosineLR(Schedule):
    """Half a wave from 1 down to `end`, over `total` steps, after `warmup` steps on a straight line
    from 0 (Loshchilov and Hutter 2016)."""

    def __init__(self, optimizer, total, warmup=0, end=0.0):
        if not 0 <= warmup < total:
            raise ArgumentError(f"warm-up of {warmup} steps, {total} in all: it must be shorter")
        self.total, self.warmup, self.end = total, warmup, end
        super().__init__(optimizer)

    def factor(self, t):
        if t < self.warmup:
            return (t + 1) / self.warmup
        done = min((t - self.warmup) / (self.total - self.warmup), 1.0)
        return self.end + (1 - self.end) * (1 + cos(pi * done)) / 2


class WarmupLR(Schedule):
    """A straight line from 0 over `warmup` steps, then as it is."""

    def __init__(self, optimizer, warmup):
        self.warmup = warmup
        super().__init__(optimizer)

    def factor(self, t):
        return min((t + 1) / self.warmup, 1.0) if self.warmup else 1.0


class OneCycleLR(Schedule):
    """Up from 1 / `start` to 1 in the first `rise` of `total` steps, then down to 1 / `finish`, both
    along half a wave: the learning rate that was given is the highest (Smith and Topin 2017)."""

    def __init__(self, optimizer, total, rise=0.3, start=25.0, finish=1e4):
        if not (0 < rise < 1 and total > 1):
            raise ArgumentError(
                f"one cycle of {total} steps, {rise} of them up: more than 1, in (0, 1)"
            )
        self.total, self.rise, self.start, self.finish = total, rise, start, finish
        super().__init__(optimizer)

    def factor(self, t):
        top = self.rise * (self.total - 1)
        if t <= top:
            return wave(1 / self.start, 1.0, t / top)
        return wave(1.0, 1 / self.finish, min((t - top) / (self.total - 1 - top), 1.0))


def wave(a, b, x):
    """From a to b, along half a cosine wave, as x goes from 0 to 1."""
    return b + (a - b) * (1 + cos(pi * x)) / 2
