"""Random numbers from a key."""

import numpy as np

from ...ops.random import Normal, Uniform
from ..kernel import Kernel, kernel

DRAW = {Uniform: np.random.Generator.random, Normal: np.random.Generator.standard_normal}


@kernel(*DRAW)
def random(op, y, key):
    draw = DRAW[type(op)]

    def run(y, key):
        bits = np.random.Philox(key=int(key[0]), counter=int(key[1]) << 64)
        generator = np.random.Generator(bits)
        if y.flags.aligned:
            draw(generator, dtype=np.float32, out=y)
        else:  # in an arena that was asked for that
            np.copyto(y, draw(generator, y.shape, np.float32))

    return Kernel("philox", run)
