"""y = M x, of vectors x, for a small matrix of known numbers: the additions that it takes, when what
several rows have in common is added once.

    y0 = 4 x0      - 5 x2      + x4             a, b = x4 - 4 x2, x3 - 4 x1
    y1 =    - 4 x1 - 4 x2 + x3 + x4      ->     y1, y2 = a + b, a - b
    y2 =      4 x1 - 4 x2 - x3 + x4             y0 = ...

Zeros and ones take nothing, any other number is part of an addition (fma).
"""

from collections import Counter
from fractions import Fraction
from math import gcd
from typing import NamedTuple

from .simd import constant, f32, fma


class Shared(NamedTuple):
    """Each step (i, j, q) makes a new x, x_i + q x_j, that several rows need. Rows say how often each
    x is in them."""

    steps: list
    rows: list

    @property
    def instructions(self) -> int:
        """Additions, and multiplications that are not part of one."""
        multiplied = sum(not {1, -1} & {*row.values()} for row in self.rows if row)
        return len(self.steps) + sum(len(row) - 1 for row in self.rows if row) + multiplied


def shared(matrix) -> Shared:
    """Of Fractions. The pair that most rows have is taken first; of such ones that which leaves most
    rows with nothing to multiply with."""
    rows = [{i: a for i, a in enumerate(row) if a} for row in matrix]
    inside = [pairs(row) for row in rows]
    steps, count = [], len(matrix[0])
    while True:
        have = Counter(pair for found in inside for pair in found)
        ones = Counter(pair for found in inside for pair, one in found.items() if one)
        best = max(have, key=lambda pair: (have[pair], ones[pair]), default=None)
        if have[best] < 2:
            return Shared(steps, rows)
        for k, row in enumerate(rows):
            if best in inside[k]:
                row[count + len(steps)] = row.pop(best[0])
                del row[best[1]]
                inside[k] = pairs(row)
        i, j, q = best
        steps.append((i, j, Fraction(q)))  # exactly


def pairs(row) -> dict:
    """{(i, j, q): is a 1 or -1?} where a (x_i + q x_j) is in the row, and q need not be rounded: as a
    float, which is compared in no time."""
    found, ratios = {}, [(i, *a.as_integer_ratio()) for i, a in row.items()]
    for i, p, q in ratios:
        for j, r, s in ratios:
            over, under = r * q, s * p  # r/s by p/q
            if i != j and is_power_of_two(under // gcd(over, under)):
                found[i, j, over / under] = abs(p) == q
    return found


def is_power_of_two(n) -> bool:
    n = abs(n)
    return n & (n - 1) == 0


def exact(matrix) -> list:
    """Numbers that differ by rounding from fractions of small ones."""
    return [[Fraction(x).limit_denominator(10_000) for x in row] for row in matrix]


def combined(matrix, x) -> list:
    """M x, of Values."""
    x = [*x]
    for i, j, q in matrix.steps:
        x.append(with_more(x[i], q, x[j]))
    return [added(row, x) for row in matrix.rows]


def added(row, x):
    """First what need not be multiplied, and that is not subtracted."""
    (i, a), *rest = sorted(row.items(), key=lambda term: (abs(term[1]) != 1, term[1] < 0))
    y = x[i] * (1 if a == 1 else float(a))
    for j, b in rest:
        y = with_more(y, b, x[j])
    return y


def with_more(y, b, x):
    if abs(b) == 1:
        return y + x if b > 0 else y - x
    return fma(constant(x.ir.type, b), x, y) if x.element == f32 else y + x * b
