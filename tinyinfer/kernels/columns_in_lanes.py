"""Convolution of few images with few channels, and both its gradients: lines as in `lines.py` and
`line_weights.py`, where the lanes of a vector are sixteen neighbouring columns of a plain image.

Nothing is converted or packed. The filters step from column to column, not over some. A line that is
no multiple of sixteen ends in a vector that overlaps another; lanes that see padding load zeros.
"""

from ..ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from .kernel import kernel
from .line_kernels import FLOAT, backward, forward, of_weights


def asked(conv, *xs) -> bool:
    return conv.stride[1] == 1 and all(x.dtype == FLOAT for x in xs)


@kernel(Conv2d)
def find(op, y, x, w, bias=None, activation="", pool=False):
    """As in `images_in_lanes.py`."""
    if asked(op, x, w):
        return forward(op, None, y.shape[3] * (1 + pool), y, x, w, bias, activation, pool)


@kernel(Conv2dInput)
def find_input(op, y, g, w):
    if asked(op.conv, g, w):
        return backward(op, None, y, g, w)


@kernel(Conv2dWeight)
def find_weight(op, y, g, x):
    if asked(op.conv, g, x):
        return of_weights(op, None, y, g, x)
