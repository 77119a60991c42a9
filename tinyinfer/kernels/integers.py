"""Elementwise steps on whole numbers: what counts the turns of a loop, and what is asked of it before
each turn.

    for i in range(n)
        y[i] = a[i] + b[i]               # b: as many numbers, or one

One number after the other, as there are few of them. Sums and products that leave 64 bits come in again
at the other end, as NumPy's do.
"""

from math import prod

import numpy as np

from ..ops import elementwise
from .kernel import Cost, Kernel, kernel
from .native import bound_several, native
from .simd import Value, above, below, builder, f32, i1, i8, i64, loop, micro, read, select, store
from .static import Static

# fmt: off
WRITE = {
    elementwise.Add:     lambda a, b: a + b,
    elementwise.Sub:     lambda a, b: a - b,
    elementwise.Mul:     lambda a, b: a * b,
    elementwise.Maximum: above,
    elementwise.Minimum: below,
    elementwise.Neg:     lambda x: -x,
    elementwise.Abs:     lambda x: select(x < 0, -x, x),
    elementwise.Cast:    lambda x: x,
    elementwise.Where:   lambda p, a, b: select(p.compared("!=", 0), a, b),

    elementwise.Equal:        lambda a, b: a.compared("==", b),
    elementwise.NotEqual:     lambda a, b: a.compared("!=", b),
    elementwise.Less:         lambda a, b: a < b,
    elementwise.LessEqual:    lambda a, b: a <= b,
    elementwise.Greater:      lambda a, b: a > b,
    elementwise.GreaterEqual: lambda a, b: a >= b,
}
# fmt: on
BY_NAME = {op.name: f for op, f in WRITE.items()}
WHOLE, FLAG, FLOAT = map(np.dtype, ("i8", "?", "f4"))


@native
def carry_out(t, part, parts, ys, xs, numbers):
    each(t, ys, xs, numbers)


@micro
def each(t, ys, xs, numbers):
    """`t.flags`: of these operands a number is a byte, 0 or 1; `t.moves`: these are not a single one."""
    for i in loop(numbers[0]):
        values = [
            get(x + i * ((1 if flags else 8) * moves), flags)
            for x, flags, moves in zip(xs, t.flags, t.moves)
        ]
        put(ys[0], i, BY_NAME[t.step](*values), t.result)


def get(address, flags) -> Value:
    return Value(builder().zext(read(address, i8).ir, i64)) if flags else read(address, i64)


def put(y, i, x, kind):
    if kind == "b":
        x = x if x.element == i1 else x.compared("!=", 0)
        store(y + i, Value(builder().zext(x.ir, i8)))
    elif kind == "f":
        store(y + i * 4, Value(builder().sitofp(x.ir, f32)))
    else:
        store(y + i * 8, x)


@kernel(*WRITE)
def find(op, y, *xs) -> Kernel | None:
    """Of int64, and of flags beside them; what is cast may also become float32."""
    kinds, n = {x.dtype for x in xs}, prod(y.shape)
    made = {WHOLE, FLAG, *[FLOAT] * isinstance(op, elementwise.Cast)}
    if not kinds <= {WHOLE, FLAG} or y.dtype not in made or WHOLE not in {y.dtype, *kinds}:
        return None
    if any(x.shape != y.shape and prod(x.shape) != 1 for x in xs):
        return None
    t = Static(
        step=op.name,
        result=y.dtype.kind,
        flags=tuple(int(x.dtype == FLAG) for x in xs),
        moves=tuple(int(prod(x.shape) != 1) for x in xs),
    )
    moved = 8 * n * (1 + len(xs))
    over = tuple(i for i, x in enumerate(xs) if x == y)
    cost = Cost(n, moved, 1 / 32)  # one of 16 lanes, and no product beside each sum
    return Kernel("whole numbers", bound_several(carry_out, t, (n,)), over=over, cost=cost)
