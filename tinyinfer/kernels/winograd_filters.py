"""Filters for Winograd's convolution, where they are not constant: U = G w Gᵀ.

    for b in range(0, filters, 16):           # side by side in the lanes
        for c in channels:
            p[b, :, c] = G w[b : b + 16, c] Gᵀ

In double precision, since the numbers of G are no short ones: so all of U is rounded once. What is not
finite then is kept as it was.
"""

from functools import cache
from math import nan, prod

from ..ops.packed import Turned
from ..ops.winograd import Winograd, toom_cook
from . import threads
from .combine import combined, shared
from .direct import FLOAT
from .kernel import Cost, Kernel, kernel
from .native import bound, native, share
from .reorder import FLOATS, to_lanes
from .simd import (
    BYTES,
    at,
    constant,
    f32x16,
    fma,
    is_nan,
    load,
    loop,
    micro,
    narrow,
    select,
    store,
    when,
    wide,
    zeros,
)
from .static import Static
from .winograd_tiles import any_lane, room, size_of


@cache
def matrix(m, r, points):
    return shared(toom_cook(m, r, points)[1])


@micro
def transform_filters(t, w, u, plane):
    """Sixteen filters r x r, of one channel; the elements of U lie `plane` bytes apart."""
    g, n, r = matrix(t.m, t.r, t.points), size_of(t), t.r
    backwards = r * r - 1 if t.turned else 0
    take = lambda k, l: wide(load(w + BYTES * abs(backwards - r * k - l)))
    columns, sum_ = [combined(g, [take(k, l) for k in range(r)]) for l in range(r)], zeros()
    for p in range(n):
        for q, x in enumerate(combined(g, [column[p] for column in columns])):
            x = narrow(x)
            store(u + plane * (n * p + q), x)
            sum_ = fma(x, zeros(), sum_)  # 0, or NaN
    kept = is_nan(sum_)
    with when(any_lane(kept)):
        for e in range(n * n):
            x = load(w + BYTES * abs(backwards - e)) if e < r * r else constant(f32x16.ir, nan)
            store(u + plane * e, select(kept, x, load(u + plane * e)))


@micro
def none(t, u, plane):
    for e in loop(size_of(t) ** 2):
        store(u + e * plane, zeros())


@native
def pack(t, part, parts, p, w, filters, channels, step, apart):
    """Of w: numbers from filter to filter and from channel to channel."""
    panels, elements, most, width = p.shape
    here, size = room(t), t.r * t.r
    for b in range(*share(panels * t.vectors, part, parts)):
        for c in range(most):
            u = at(p, (b // t.vectors * elements * most + c) * width + b % t.vectors * 16)
            if 16 * b < filters and c < channels:
                source, count = at(w, 16 * b * step + c * apart), min(16, filters - 16 * b)
                to_lanes(FLOATS, source, 4 * step, count, here, 64, 16, size, 0, (size + 15) // 16)
                transform_filters(t, here, u, 4 * most * width)
            else:
                none(t, u, 4 * most * width)


@kernel(Winograd, Turned)
def find(op, p, w):
    turned = isinstance(op, Turned)
    form = op.form if turned else op
    if not isinstance(form, Winograd) or w.dtype != FLOAT:
        return None
    o, c, r, _ = w.shape
    t = Static(m=form.m, r=r, points=form.points, vectors=form.vectors, turned=int(turned))
    numbers = (c, o, r * r, c * r * r) if turned else (o, c, c * r * r, r * r)
    size = 4 * (prod(w.shape) + prod(p.shape))
    parts = threads.parts(size, p.shape[0] * form.vectors)
    return Kernel("in lanes", bound(pack, t, numbers, parts), cost=Cost(size, size))
