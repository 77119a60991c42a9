"""Convolution of sixteen images at a time, side by side in the lanes, and both its gradients: lines as
in `lines.py` and `line_weights.py`, of images that lie as [image / 16][channel][row][column][16].

That fills all lanes however few channels there are, and nothing is packed. What images the last block
lacks are zeros before and after.
"""

from ..core.spec import Spec
from ..ops.conv import Conv2d, Conv2dInput, Conv2dWeight
from ..ops.layout import In, image_shape
from .kernel import kernel
from .line_kernels import FLOAT, backward, forward, of_weights

LAYOUT = "NCHW16n"


def asked(op, *xs) -> bool:
    """Floats, in lanes."""
    return op.layout == LAYOUT == (op.source or LAYOUT) and all(x.dtype == FLOAT for x in xs)


@kernel((In, Conv2d))
def find(op, y, x, w, bias=None, activation="", pool=False):
    """`bias`, the spec of one number a filter, an activation, and the largest of 2 x 2 numbers are for
    what is fused with it: y has the result's shape then."""
    if asked(op, x, w):
        columns = op.op.infer(Spec(image_shape(LAYOUT, x.shape, op.count), FLOAT), w).shape[3]
        columns = columns // 2 * 2 if pool else columns
        return forward(op, op.count, columns, y, x, w, bias, activation, pool)


@kernel((In, Conv2dInput))
def find_input(op, y, g, w):
    if asked(op, g, w):
        return backward(op, op.count, y, g, w)


@kernel((In, Conv2dWeight))
def find_weight(op, y, g, x):
    if asked(op, g, x):
        return of_weights(op, op.count, y, g, x)
