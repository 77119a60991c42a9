"""acc[l] += sum over the four bytes of lane l of u (unsigned) * s (signed): exactly, on every CPU.

By one instruction where the CPU has one for that (vpdpbusd). Elsewhere bytes become 16 bits, the even
and the odd ones apart, of which x86 adds two products at a time (pmaddwd); what it has for bytes
(pmaddubsw) saturates, so it is of no use here. Arm's instruction multiplies signed by signed: u - 128
is signed, and 128 times the sum of s is added.
"""

from llvmlite import ir

from .host import HOST
from .simd import LANES, Value, builder, call, cast, i8, i16, i32, shuffled


def dot4(acc, u, s, by=None) -> Value:
    """`by` is an instruction, "pairs" or "plain"; the best there is, if nothing is said."""
    by = by or HOST.dot or ("pairs" if HOST.x86 else "plain")
    one, n = BY[by]
    parts = lambda x: [shuffled(x, x, range(o, o + n)) for o in range(0, LANES, n)]
    return joined([one(*each) for each in zip(parts(acc), parts(u), parts(s))])


def joined(parts) -> Value:
    while len(parts) > 1:
        n = 2 * parts[0].ir.type.count
        parts = [shuffled(a, b, range(n)) for a, b in zip(parts[::2], parts[1::2])]
    return parts[0]


def vnni(acc, u, s):
    return call(f"llvm.x86.avx512.vpdpbusd.{32 * acc.ir.type.count}", acc.ir.type, acc, u, s)


def sdot(acc, u, s):
    bytes_ = ir.VectorType(i8, 16)
    u, s = cast(u ^ -0x7F7F7F80, bytes_), cast(s, bytes_)  # 0x80808080: each of them less 128
    dot = lambda acc, u, s: call("llvm.aarch64.neon.sdot.v4i32.v16i8", acc.ir.type, acc, u, s)
    return dot(acc, u, s) + (dot(Value(ir.Constant(acc.ir.type, None)), ones(bytes_), s) << 7)


def ones(kind):
    return Value(ir.Constant(kind, [1] * kind.count))


def pairs(acc, u, s):
    """Of 16 bits: a[2l] b[2l] + a[2l + 1] b[2l + 1], in an instruction."""
    n = acc.ir.type.count
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[n]
    return acc + by_halves(u, s, lambda a, b: call(f"llvm.x86.{name}", acc.ir.type, a, b))


def plain(acc, u, s):
    n = acc.ir.type.count
    wide = ir.VectorType(i32, 2 * n)

    def add_pairs(a, b):
        x = Value(builder().sext(a.ir, wide)) * Value(builder().sext(b.ir, wide))
        return shuffled(x, x, range(0, 2 * n, 2)) + shuffled(x, x, range(1, 2 * n, 2))

    return acc + by_halves(u, s, add_pairs)


def by_halves(u, s, add_pairs):
    """The even bytes, and the odd ones, as 16 bits each."""
    half = ir.VectorType(i16, 2 * u.ir.type.count)
    u, s = cast(u, half), cast(s, half)
    return add_pairs(u & 255, (s << 8) >> 8) + add_pairs((u >> 8) & 255, s >> 8)


# how -> (what does it for a register, lanes of that)
BY = {
    "avx512vnni": (vnni, 16),
    "avxvnni": (vnni, 8),
    "dotprod": (sdot, 4),
    "pairs": (pairs, HOST.lanes),
    "plain": (plain, HOST.lanes),
}
