"""Loops that do nothing but keep the arithmetic of one core busy.

    for turn in range(turns):
        for chain in range(CHAINS):                  # unrolled; each in a register of its own
            acc[chain] = acc[chain] * 0.5 + 1        # or, of int8: acc[chain] += acc[chain] . acc[chain]

A core starts such an instruction once or more often a cycle, but each takes several cycles: so there
are many chains, none of which waits for another.
"""

from functools import reduce
from operator import add

from numba import types

from ..kernels.dot import dot4
from ..kernels.host import HOST
from ..kernels.native import native
from ..kernels.simd import LANES, constant, f32x16, fma, i32x16, loop, micro, registers, total

CHAINS = (HOST.registers - 4) * HOST.lanes // LANES  # as many vectors as the registers hold
FLOPS = 2 * LANES * CHAINS  # of one turn
INT8_OPS = 4 * FLOPS


def chains(vector, turns, step):
    """One vector that depends on all: else the compiler would drop them."""
    accs = registers(
        [constant(vector.ir, i) for i in range(CHAINS)]
    )  # no two alike: they would be one
    for _ in loop(turns):
        for i in range(CHAINS):
            accs[i] = step(accs[i])
    return reduce(add, accs)


@micro(types.float32)
def multiply_add(turns):
    half, one = (constant(f32x16.ir, x) for x in (0.5, 1))
    return total(chains(f32x16, turns, lambda acc: fma(acc, half, one)))


@micro(types.int32)
def dot(turns):
    return total(chains(i32x16, turns, lambda acc: dot4(acc, acc, acc)))


@native
def float_loop(turns):
    return multiply_add(turns)


@native
def int8_loop(turns):
    return dot(turns)
