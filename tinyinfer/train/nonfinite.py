"""Which op made the first NaN or infinity."""

from math import isfinite

import numpy as np

from ..core.op import watchers
from ..core.spec import spec_of
from ..core.trace import mode


class Watch:
    """Around a step, it sees every op, and notes the first that makes a non-finite number of finite
    ones. What does no harm is forgotten after the step, like the log of a zero that `where` drops.
    """

    def __init__(self, run):
        self.run = run
        self.found = None

    def __enter__(self):
        watchers.append(self.see)

    def __exit__(self, kind, error, trace):
        watchers.remove(self.see)
        if error is None:
            for name, parameter in self.run.model.named_parameters():
                self.run.expect_finite(name, worst(parameter.numpy()))
            self.found = None

    def see(self, op, arrays, result):
        if (
            not self.found
            and not isfinite(worst(result))
            and all(isfinite(worst(x)) for x in arrays)
        ):
            made_of = ", ".join(map(describe, arrays))
            self.found = f"{op.name} in {self.place()} made {worst(result)} of {made_of}"

    def cause(self) -> str:
        return self.found or "no op made it: it was in the images, or in the first values"

    def place(self) -> str:
        names = {module: name for name, module in self.run.model.named_modules()}
        inside = [names.get(call.module) for call in mode.origin.calls]
        return next(
            filter(None, reversed(inside)), "the model" if inside else "the loss or optimizer"
        )


def worst(array) -> float:
    """A number that is not finite, if there is one."""
    if array.dtype.kind != "f":
        return 0.0
    bad = array[~np.isfinite(array)]
    return float(bad.flat[0]) if bad.size else 0.0


def describe(array) -> str:
    """float32[64, 10] from -3.1 to 88"""
    if not array.size:
        return str(spec_of(array))
    return f"{spec_of(array)} from {array.min():.3g} to {array.max():.3g}"
