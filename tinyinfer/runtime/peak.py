"""Loops that do nothing but keep the arithmetic of one core busy.

    for turn in range(turns):
        for chain in range(CHAINS):                  # unrolled; each in a register of its own
            acc[chain] = acc[chain] * 0.5 + 1        # or, of int8: acc[chain] += acc[chain] . acc[chain]

A core starts such an instruction once or more often a cycle, but each takes several cycles: so there
are many chains, none of which waits for another. They are written as vectors of LLVM, as wide as a
register of the CPU is, because a compiler that sees the loop alone does not always find them.
"""

from functools import reduce

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# fmt: off
REGISTERS = {  # feature of the CPU: numbers of 32 bits in a vector, and how many chains it has room for
    "avx512f": (16, 24),
    "avx":     ( 8, 12),
    "neon":    ( 4, 24),
    "":        ( 4, 12),
}
DOT4 = {  # acc[l] += sum of the products of four bytes, in one instruction
    "avx512vnni": (16, "llvm.x86.avx512.vpdpbusd.512"),
    "avxvnni":    ( 8, "llvm.x86.avx512.vpdpbusd.256"),
    "dotprod":    ( 4, "llvm.aarch64.neon.sdot.v4i32.v16i8"),
}
# fmt: on


def features() -> set[str]:
    """What Numba compiles for; of an old CPU, or at the user's wish, less than the newest."""
    *_, found = cpu_target.target_context.codegen().magic_tuple()
    return {"", *[f[1:] for f in found.split(",") if f.startswith("+")]}


def first(table):
    has = features()
    return next((row for feature, row in table.items() if feature in has), None)


LANES, CHAINS = first(REGISTERS)
DOT_LANES, INSTRUCTION = first(DOT4) or (LANES, None)

FLOPS = 2 * LANES * CHAINS  # of one turn
INT8_OPS = 2 * 4 * DOT_LANES * CHAINS

F32 = ir.VectorType(ir.FloatType(), LANES)
I32 = ir.VectorType(ir.IntType(32), DOT_LANES)
I16 = ir.VectorType(ir.IntType(16), 2 * DOT_LANES)
I8 = ir.VectorType(ir.IntType(8), 4 * DOT_LANES)


@intrinsic
def multiply_add(typingctx, turns):
    """One number that depends on all: else the compiler would drop them."""

    def codegen(context, builder, sig, args):
        f = function(builder, f"llvm.fmuladd.v{LANES}f32", F32, F32, F32, F32)
        step = lambda acc: builder.call(f, [acc, splat(F32, 0.5), splat(F32, 1.0)])
        return chains(builder, *args, F32, step, builder.fadd)

    return types.float32(types.intp), codegen


@intrinsic
def dot4(typingctx, turns):
    def codegen(context, builder, sig, args):
        return chains(builder, *args, I32, lambda acc: add_dot(builder, acc), builder.add)

    return types.int32(types.intp), codegen


def chains(builder, turns, vector, step, add):
    """LLVM keeps the variables in registers."""
    starts = [splat(vector, i) for i in range(CHAINS)]  # no two alike, or they would become one
    accs = [cgutils.alloca_once_value(builder, x) for x in starts]
    with cgutils.for_range(builder, turns):
        for acc in accs:
            builder.store(step(builder.load(acc)), acc)
    total = reduce(add, map(builder.load, accs))
    return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))


def add_dot(builder, acc):
    """acc[l] += the sum of the squares of its own four bytes"""
    if not INSTRUCTION:
        return reduce(builder.add, [acc, squares(builder, acc, 8), squares(builder, acc, 0)])
    takes = I8 if "neon" in INSTRUCTION else I32
    f = function(builder, INSTRUCTION, I32, I32, takes, takes)
    x = builder.bitcast(acc, takes)
    return builder.call(f, [acc, x, x])


def squares(builder, acc, shift):
    """Of the upper byte of each 16 bits, or, shifted up, the lower; two by two added."""
    up = builder.shl(builder.bitcast(acc, I16), splat(I16, shift))
    x = builder.sext(builder.ashr(up, splat(I16, 8)), ir.VectorType(ir.IntType(32), I16.count))
    x = builder.mul(x, x)
    halves = [ir.Constant(I32, [*range(i, I16.count, 2)]) for i in (0, 1)]
    return builder.add(*[builder.shuffle_vector(x, x, half) for half in halves])


def splat(vector, x):
    return ir.Constant(vector, [x] * vector.count)


def function(builder, name, y, *xs):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(y, xs), name)


@njit("float32(intp)", cache=True, nogil=True)
def float_loop(turns):
    return multiply_add(turns)


@njit("int32(intp)", cache=True, nogil=True)
def int8_loop(turns):
    return dot4(turns)
