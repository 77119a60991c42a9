"""Curves of 16 floats at a time: within two and a half units in the last place, NaN, infinity and -0 as in
NumPy, also where numbers are smaller than 2**-126.

    exp(x) = 2**n exp(r)        n = x / log(2), rounded; r = x - n log(2) is small
    log(x) = e log(2) + log(m)  x = 2**e m, with m between sqrt(1/2) and sqrt(2)

and a polynomial for what is small. Those of exp and log are those of Cephes (Moshier 1989, expf.c and
logf.c), those of erf are Juffa's (2016, "faithfully rounded erff").
"""

from functools import reduce

from .simd import (
    WHOLE,
    WHOLE_BITS,
    Value,
    above,
    below,
    call,
    cast,
    constant,
    f32x16,
    fma,
    i32x16,
    micro,
    select,
)

LOG2E = 1.44269504088896341
LOG2 = 0.693359375, -2.12194440e-4  # their sum; n times the first is exact
SMALLEST = 2.0**-126  # below it there are fewer bits

EXP = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1
EXP += (5.0000001201e-1,)
LOG = 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1
LOG += -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1
ERF = -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1
ERFC = -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1
ERFC += -6.34846687e-1, -1.28717512e-1


def of(x) -> Value:
    """In every lane."""
    return x if isinstance(x, Value) else constant(f32x16.ir, x)


def polynomial(x, coefficients) -> Value:
    """The first one belongs to the highest power."""
    return reduce(lambda y, c: fma(y, x, c), map(of, coefficients))


def absolute(x) -> Value:
    return call("llvm.fabs.v16f32", x.ir.type, x)


def with_sign(x, of) -> Value:
    return call("llvm.copysign.v16f32", x.ir.type, x, of)


def power(n) -> Value:
    """2**n, for n from -126 to 127."""
    return cast((n << 23) + (127 << 23), f32x16)


def reduced(x, low, high):
    """(q, n): exp(x) = (1 + q) 2**n; of x no lower and no higher than that."""
    x = below(of(high), above(of(low), x))
    t = fma(x, of(LOG2E), of(WHOLE))
    r = reduce(lambda r, c: fma(t - WHOLE, of(-c), r), LOG2, x)
    return fma(polynomial(r, EXP), r * r, r), cast(t, i32x16) - WHOLE_BITS


@micro(f32x16)
def exp(x):
    q, n = reduced(x, -104.0, 89.0)
    half = n >> 1  # 2**n itself may be no number
    return (q + 1.0) * power(half) * power(n - half)


@micro(f32x16)
def expm1(x):
    """exp(x) - 1"""
    q, n = reduced(x, -18.0, 89.0)
    half = power(n - 1)
    return select(absolute(x) < 2.0**-25, x, fma(q, half, half - 0.5) * 2.0)


def logarithm(m, e):
    """log((1 + m) 2**e)"""
    z = m * m
    y = fma(e, of(LOG2[1]), polynomial(m, LOG) * z * m)
    return fma(e, of(LOG2[0]), m + fma(z, of(-0.5), y))


def exponent(x):
    """e of x = 2**e m; as a whole number."""
    return (cast(x, i32x16) - 0x3F3504F3) >> 23


@micro(f32x16)
def log(x):
    small = x < SMALLEST
    scaled = select(small, x * 2.0**23, x)
    e = exponent(scaled)
    m = cast(cast(scaled, i32x16) - (e << 23), f32x16)
    y = logarithm(m - 1.0, whole(e) - select(small, of(23.0), of(0.0)))
    return beyond(x, y, x)


@micro(f32x16)
def log1p(x):
    """log(1 + x)"""
    u = x + 1.0
    e = exponent(u)
    scale = power(2 - e)
    y = logarithm(fma(x, scale, scale - 4.0) * 0.25, whole(e))
    return select(absolute(x) < 2.0**-25, x, beyond(u, y, x))


def beyond(u, y, x):
    """y = log(u), but where that is no number: x stays if it is infinite or NaN."""
    y = select(u > 0.0, y, select(u < 0.0, of(float("nan")), of(-float("inf"))))
    return select(x < float("inf"), y, x)


def whole(n) -> Value:
    """An integer, as a float."""
    return cast(n + WHOLE_BITS, f32x16) - WHOLE


@micro(f32x16)
def tanh(x):
    t = expm1(absolute(x) * -2.0)
    return with_sign(t / (t + 2.0), x)


@micro(f32x16)
def sigmoid(x):
    """1 / (1 + exp(-x))"""
    small = exp(-absolute(x))
    return select(x < 0.0, small, of(1.0)) / (small + 1.0)


@micro(f32x16)
def softplus(x):
    """log(1 + exp(x))"""
    return above(of(0.0), x) + log1p(exp(-absolute(x)))


@micro(f32x16)
def erf(x):
    a, z = absolute(x), x * x
    middle = fma(polynomial(z, ERF), x, x)
    tail = fma(polynomial(a, ERFC), a, -a)
    return select(a > 0.927734375, with_sign(of(1.0) - exp(tail), x), middle)


@micro(f32x16)
def sqrt(x):
    return call("llvm.sqrt.v16f32", x.ir.type, x)


def rounded(how):
    @micro(f32x16)
    def f(x):
        return call(f"llvm.{how}.v16f32", x.ir.type, x)

    return f


floor, ceil, rint = map(rounded, ("floor", "ceil", "rint"))
