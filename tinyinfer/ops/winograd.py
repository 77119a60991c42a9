"""Winograd's minimal filtering: a convolution of stride 1 with fewer multiplications. Also known as
the Toom-Cook (or Cook-Toom) algorithm, as fast or minimal filtering, and as F(m x m, r x r).

    Y = Aᵀ [(G w Gᵀ) ∘ (Bᵀ d B)] A

makes m x m outputs of n x n inputs d and r x r weights w, n = m + r - 1, with n² products, where
the definition has m² r²: with F(4 x 4, 3 x 3), 36 and 144. Of many channels the sum is taken before
Aᵀ, and the transforms of d and Y are shared by all of them. So what is left to do is n² products of
matrices: (outputs x inputs) @ (inputs x tiles).

Where the matrices come from, for one line, y_i = sum_k d_{i+k} w_k. Take any m numbers h as well,
and read h and w as polynomials. The coefficients of their product are s_j = sum_k h_{j-k} w_k, so

    sum_i h_i y_i  =  sum_{i,k} h_i w_k d_{i+k}  =  sum_j s_j d_j

s has n coefficients, hence is known from its values at n points; and the value of a product is the
product of the values: n multiplications. With A h and G w the values of h and w, and B the matrix
that makes coefficients of values (Lagrange), s = B [(G w) ∘ (A h)], and

    sum_i h_i y_i  =  (Bᵀ d) · [(G w) ∘ (A h)]  =  h · Aᵀ [(G w) ∘ (Bᵀ d)]

for all h: what stands behind the last dot is y. In two dimensions, it is done along the rows and
along the columns. Which points, is free: it decides about the rounding errors, which grow quickly
with n, for values at large points, and differences of them, are far larger than the result.
Infinity is the best of them: a value there is the highest coefficient.

It is not for strides, dilations or filters that are not square. An infinity or a NaN in a tile
would spoil all of its outputs, since it is multiplied by zeros, too: such tiles take the definition.
And where there are few channels or few pixels, the transforms cost more than the products that they
save.

S. Winograd, Arithmetic complexity of computations, SIAM 1980; A. Lavin, S. Gray, Fast algorithms
for convolutional neural networks, 2015, arXiv 1509.09308; B. Barabasz, A. Anderson, K. Soodhalter,
D. Gregg, Error analysis and improving the accuracy of Winograd convolution for deep neural
networks, 2018, arXiv 1803.10986.
"""

from fractions import Fraction
from functools import cache
from math import inf, isqrt, prod

import numpy as np

from ..core.spec import Spec
from ..errors import ArgumentError, DTypeError, ShapeError
from .conv import windows
from .layout import In, pack
from .packed import Form, filled

# The best first: small ones, with each its negative or its inverse, so that much cancels exactly.
POINTS = 0, 1, -1, 0.5, -2, 2, -0.5, -0.25, 4, 0.25, -4


def usual_points(m, r) -> tuple[float, ...]:
    """The m + r - 2 points besides infinity; ArgumentError if they are more than are known here."""
    if m + r - 2 > len(POINTS):
        raise ArgumentError(
            f"winograd: F({m}, {r}) needs {m + r - 2} points, and {len(POINTS)} good ones are "
            "known: choose the others, or smaller tiles"
        )
    return POINTS[: m + r - 2]


def toom_cook(m, r, points):
    """Aᵀ (m, n), G (n, r) and Bᵀ (n, n) of F(m, r), exactly: arrays of Fractions, n = m + r - 1.

    From n - 1 different rational points; infinity is the last. The values of weights are divided by
    what Lagrange's polynomials are at their points: so this is done once, and where the points are
    sums of powers of two, no number of Aᵀ and Bᵀ has to be rounded.
    """
    check(m, r, points)
    points = [Fraction(p) for p in points]
    others = [[q for q in points if q != p] for p in points]
    scales = [prod(p - q for q in rest) for p, rest in zip(points, others)]
    signs = [-1 if p == 0 and s < 0 else 1 for p, s in zip(points, scales)]  # as Lavin has them
    a = [powers(p, m) for p in points] + [highest(m)]
    g = [[sign * x / s for x in powers(p, r)] for p, s, sign in zip(points, scales, signs)]
    b = [[sign * x for x in coefficients(rest)] + [0] for rest, sign in zip(others, signs)]
    return exact(a).T, exact([*g, highest(r)]), exact([*b, coefficients(points)])


def check(m, r, points):
    """ArgumentError, unless there is an F(m, r) made of these points."""
    different = len(set(points)) == len(points) and all(-inf < p < inf for p in points)
    if min(m, r) < 1 or not different or len(points) != m + r - 2:
        told = ", ".join(map(str, points[:12])) or "none"
        raise ArgumentError(
            f"winograd: F({m}, {r}) is made of m + r - 2 different points besides infinity, for m "
            f"and r from 1 on, and not of {told}"
        )


def exact(rows):
    return np.array([[Fraction(x) for x in row] for row in rows])


def powers(p, count):
    return [p**k for k in range(count)]


def highest(count):
    return [int(k == count - 1) for k in range(count)]


def coefficients(roots):
    """Of the product of all (x - p), the lowest first."""
    c = [1]
    for p in roots:
        c = [lower - p * same for lower, same in zip([0, *c], [*c, 0])]
    return c


def multiplications(m, r) -> Fraction:
    """For an output of a plane; a convolution by its definition has r² of them."""
    return Fraction((m + r - 1) ** 2, m**2)


@cache
def transforms(m, r, points):
    """Aᵀ, G and Bᵀ in double precision."""
    return tuple(matrix.astype(np.float64) for matrix in toom_cook(m, r, points))


# fmt: off


def both_ways(a, x):
    """a x aᵀ, of every (i, j, ...) -> (p, q, ...)"""
    for _ in range(2):
        x = np.tensordot(a, x, 1).swapaxes(0, 1)
    return x


def tiles(x, m, r, padding):
    """(b, c, h, w) -> (n, n, c, b, i, j): so many rows and columns of tiles have all outputs in
    them; the last of them hang over the edge, into zeros."""
    ends = [(before, -(-(size + before + after - r + 1) // m) * m + r - 1 - size - before)
            for size, (before, after) in zip(x.shape[2:], padding)]
    return windows(x, (m + r - 1,) * 2, (m, m), ends).transpose(2, 3, 1, 0, 4, 5)


def filters(w, m, points):
    """U = G w Gᵀ in double precision, (o, c, r, r) -> (n, n, c, o)"""
    _, g, _ = transforms(m, w.shape[2], points)
    return both_ways(g, w.transpose(2, 3, 1, 0).astype(np.float64))


def convolve(x, u, m, r, points, padding, keep_v=lambda v: v, keep_m=lambda m: m):
    """y = w * x, of images x (b, c, h, w) and of `filters` u.

    `keep_v` and `keep_m` are how Bᵀ d B (n, n, c, b, i, j) and the products (n n, o, b i j) are
    kept: rounded, where less precise numbers are tried.
    """
    dtype = np.result_type(x, u)
    at, _, bt = (matrix.astype(dtype) for matrix in transforms(m, r, points))
    v = keep_v(both_ways(bt, tiles(x, m, r, padding)))
    n, _, c, b, i, j = v.shape
    o = u.shape[3]
    products = u.reshape(n * n, c, o).swapaxes(1, 2) @ v.reshape(n * n, c, b * i * j)
    y = both_ways(at, keep_m(products).reshape(n, n, o, b, i, j))
    h, w = (size + sum(ends) - r + 1 for size, ends in zip(x.shape[2:], padding))
    return y.transpose(3, 2, 4, 0, 5, 1).reshape(b, o, i * m, j * m)[:, :, :h, :w]


class Winograd(Form):
    """Filters (o, c, r, r) as U = G w Gᵀ, for tiles of m x m outputs, in panels of 16 `vectors`
    filters: p[o', n e + f, c, v] = U[16 vectors o' + v, c, e, f], with channels up to a multiple of
    16. They are computed in double precision, and rounded once. Where that is not finite, a filter is
    kept as it is, in the first r r elements, and the others are NaN."""
    m: int
    points: tuple[float, ...]
    vectors: int

    def infer(self, w):
        if len(w.shape) != 4 or w.shape[2] != w.shape[3]:
            raise ShapeError(f"winograd: filters are (out, in, r, r), not {w.shape}")
        if not w.floating:
            raise DTypeError(f"winograd: filters must be floats, not {w.dtype}: use astype('float32')")
        o, c, r, _ = w.shape
        check(self.m, r, self.points)
        if self.vectors < 1:
            raise ArgumentError(f"winograd: vectors is a number from 1 on, not {self.vectors}")
        n, wide = self.m + r - 1, 16 * self.vectors
        return Spec((-(-o // wide), n * n, -(-c // 16) * 16, wide), w.dtype)

    def forward(self, w):
        o, c, r, _ = w.shape
        wide, n = 16 * self.vectors, self.m + r - 1
        with np.errstate(invalid="ignore", over="ignore"):
            u = filters(w, self.m, self.points).astype(w.dtype).reshape(n * n, c, o)
        kept = ~np.isfinite(u).all(0)
        u[:, kept] = np.nan
        u[:r * r, kept] = w.transpose(2, 3, 1, 0).reshape(r * r, c, o)[:, kept]
        u = filled(filled(u, 1, 16), 2, wide)
        return np.ascontiguousarray(u.reshape(*u.shape[:2], -(-o // wide), wide).transpose(2, 0, 1, 3))

    def flops(self, u, w):
        o, c, r, _ = w.shape
        n = self.m + r - 1
        return 2 * o * c * (n * r * r + n * n * r)

    def elements(self, p, shape):
        """U (n, n, c, o), from the panels."""
        panels, elements, channels, wide = p.shape
        n = isqrt(elements)
        u = p.transpose(1, 2, 0, 3).reshape(n, n, channels, panels * wide)
        return u[:, :, :shape[1], :shape[0]]

    def unpack(self, p, shape):
        """w, but for rounding errors: a filter has fewer numbers than its transform."""
        o, c, r, _ = shape
        (_, g, _), u = transforms(self.m, r, self.points), self.elements(p, shape)
        w = both_ways(np.linalg.pinv(g), np.nan_to_num(u))
        kept = u.reshape(len(g) ** 2, c, o)[:r * r].reshape(r, r, c, o)
        return np.where(np.isnan(u[-1, -1]), kept, w).transpose(3, 2, 0, 1).astype(p.dtype)

    def carry_out(self, op, x, p, shape):
        if isinstance(op, In):
            return pack(self.carry_out(op.op, op.way(0).forward(x), p, shape), op.layout)
        if (op.stride, op.dilation, op.groups) != ((1, 1), (1, 1), 1):
            raise ArgumentError(f"winograd: stride, dilation and groups must be 1, and not as in {op}")
        u = self.elements(p, shape)
        if not (np.isfinite(x).all() and np.isfinite(u).all()):
            return op.forward(x, self.unpack(p, shape))
        return convolve(x, u, self.m, shape[2], self.points, op.padding)


# fmt: on
