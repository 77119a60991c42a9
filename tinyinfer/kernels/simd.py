"""What micro-kernels do with vectors: shuffle, load and store, compute. What a micro-kernel is stands in
micro.py, of which this gives the names too.

Addresses are numbers of bytes; loads and stores need no alignment, and nothing is checked.
"""

from llvmlite import ir
from numba import types

from .host import HOST
from .micro import (  # noqa: F401
    BYTES,
    LANES,
    Micro,
    Value,
    builder,
    call,
    constant,
    f32,
    f32x16,
    f64,
    f64x16,
    i1,
    i8,
    i16,
    i32,
    i32x16,
    i64,
    loop,
    micro,
    number,
    registers,
    u8x16,
    values,
    void,
    when,
    zeros,
)

# ---- lanes -----------------------------------------------------------------------------------------


def shuffled(a, b, lanes) -> Value:
    """Lanes of a and, counted on, of b."""
    lanes = [*lanes]
    mask = ir.Constant(ir.VectorType(i32, len(lanes)), lanes)
    return Value(builder().shuffle_vector(a.ir, b.ir, mask))


def transposed(vectors) -> list[Value]:
    """Of 16 vectors: lane i of vector j becomes lane j of vector i. Two of them go between each other's
    numbers, then pairs of numbers, inside each quarter of a register; then they exchange quarters. All
    of this is one cheap instruction on x86, where any other order of lanes is a dearer one."""
    quarters = lambda lanes: [4 * q + i for q in range(4) for i in lanes]
    numbers = quarters((0, 16, 1, 17)), quarters((2, 18, 3, 19))
    pairs = quarters((0, 1, 16, 17)), quarters((2, 3, 18, 19))
    whole = [[i for i in range(2 * LANES) if i // 4 % 2 == odd] for odd in (0, 1)]
    for apart, (low, high) in (1, numbers), (2, pairs), (4, whole), (8, whole):
        vectors = [
            shuffled(vectors[i & ~apart], vectors[i | apart], high if i & apart else low)
            for i in range(16)
        ]
    return [vectors[i & ~3 | 2 * (i % 2) | i // 2 % 2] for i in range(16)]


def cast(x, vector) -> Value:
    """The same bits."""
    return Value(builder().bitcast(x.ir, getattr(vector, "ir", vector)))


# ---- memory ----------------------------------------------------------------------------------------


def _address(typing, array, index):
    """The address of element `index` of the array's memory."""

    def codegen(context, b, sig, args):
        data = context.make_array(sig.args[0])(context, b, args[0]).data
        return b.ptrtoint(b.gep(data, [args[1]]), i64)

    return types.intp(array, types.intp), codegen


at = Micro("at", _address)
at._register()


def pointer(address, kind):
    return builder().inttoptr(number(address).ir, kind.as_pointer())


def read(address, kind) -> Value:
    """A vector of Numba, or a number of LLVM; from anywhere, aligned or not."""
    kind = getattr(kind, "ir", kind)
    return Value(builder().load(pointer(address, kind), align=1))


@micro(f32x16)
def load(address):
    return read(address, f32x16)


@micro(i32x16)
def load_integers(address):
    return read(address, i32x16)


@micro
def store(address, x):
    builder().store(x.ir, pointer(address, x.ir.type), align=1)


@micro
def stream(address, x):
    """A store past the caches, to an address that 64 divides: what is larger than they are need not
    be fetched before it is written. After the last one, `streamed`."""
    b, m = builder(), builder().module
    b.store(x.ir, pointer(address, x.ir.type), align=BYTES).set_metadata(
        "nontemporal", m.add_metadata([ir.Constant(i32, 1)])
    )


@micro
def streamed():
    """Other threads see what was streamed."""
    builder().fence("seq_cst")


@micro(types.float32)
def load_one(address):
    return read(address, f32)


@micro(f32x16)
def splat(x):
    """The same number in every lane."""
    kind = ir.VectorType(x.ir.type, LANES)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder().insert_element(nothing, x.ir, ir.Constant(i32, 0))
    return shuffled(Value(first), Value(nothing), [0] * LANES)


def broadcast(address, kind=f32) -> Value:
    """The number at an address, in every lane; of `i32` four bytes, as they are."""
    return splat(read(address, kind))


def first_lanes(n) -> Value:
    """The mask of the first n lanes."""
    lanes = Value(ir.Constant(ir.VectorType(i32, LANES), [*range(LANES)]))
    return lanes < splat(Value(builder().trunc(number(n).ir, i32)))


def _masked(name, kind):
    return f"llvm.masked.{name}.v16{'f32' if kind == f32 else kind}.p0"


@micro(f32x16)
def load_some(address, n):
    """The first n lanes; zeros in the others, which are not touched in memory."""
    return read_some(address, n, f32x16)


def read_some(address, n, vector) -> Value:
    return read_masked(address, first_lanes(n), vector)


def read_masked(address, mask, vector=f32x16) -> Value:
    v, align = vector.ir, ir.Constant(i32, 1)
    return call(_masked("load", v.element), v, pointer(address, v), align, mask, zeros(vector))


@micro
def store_some(address, x, n):
    mask, align = first_lanes(n), ir.Constant(i32, 1)
    call(_masked("store", x.element), void, x, pointer(address, x.ir.type), align, mask)


@micro
def copy(to, source, size):
    """So many bytes."""
    call(
        "llvm.memcpy.p0.p0.i64",
        void,
        pointer(to, i8),
        pointer(source, i8),
        size,
        ir.Constant(i1, 0),
    )


@micro
def fill(to, byte, size):
    """So many bytes, all the same."""
    byte = Value(builder().trunc(byte.ir, i8))
    call("llvm.memset.p0.i64", void, pointer(to, i8), byte, size, ir.Constant(i1, 0))


@micro
def prefetch(address):
    """Ask for the line of cache there."""
    call("llvm.prefetch.p0", void, pointer(address, i8), *(ir.Constant(i32, n) for n in (0, 3, 1)))


# ---- arithmetic ------------------------------------------------------------------------------------


@micro(f32x16)
def fma(a, b, c):
    """a * b + c, rounded once where the CPU can. (Else llvm.fma would be a call a lane.)"""
    return call(f"llvm.{'fma' if HOST.fma else 'fmuladd'}.v16f32", a.ir.type, a, b, c)


def select(mask, a, b) -> Value:
    a, b = values(a, b)
    return Value(builder().select(mask.ir, a.ir, b.ir))


@micro(f32x16)
def maximum(a, b):
    """As NumPy's: NaN if one of them is."""
    return select(is_nan(a), a, above(a, b))


@micro(f32x16)
def minimum(a, b):
    return select(is_nan(a), a, below(a, b))


def above(a, b) -> Value:
    """The larger one, of numbers or vectors, in one instruction; b if either is NaN."""
    a, b = values(a, b)
    return select(a > b, a, b)


def below(a, b) -> Value:
    a, b = values(a, b)
    return select(a < b, a, b)


def is_nan(a, b=None) -> Value:
    """Where a, or b, is."""
    return Value(builder().fcmp_unordered("uno", a.ir, (b or a).ir))


@micro(f32x16)
def relu(x):
    """NaN passes."""
    return above(zeros(), x)


ACTIVATIONS = {"": lambda x: x, "relu": relu}  # of sums, before they are stored


@micro(types.float32)
def total(x):
    """The sum of all lanes, by halves."""
    while x.ir.type.count > 1:
        n = x.ir.type.count // 2
        x = shuffled(x, x, range(n)) + shuffled(x, x, range(n, 2 * n))
    return Value(builder().extract_element(x.ir, ir.Constant(i32, 0)))


WHOLE = (
    1.5 * 2**23
)  # a float plus this has the nearest whole number, ties to even, in its last bits,
WHOLE_BITS = 0x4B400000  # added to these


def to_float(x) -> Value:
    return Value(builder().sitofp(x.ir, f32x16.ir))


def wide(x) -> Value:
    """In double precision."""
    return Value(builder().fpext(x.ir, f64x16))


def narrow(x) -> Value:
    return Value(builder().fptrunc(x.ir, f32x16.ir))


def nearest(x) -> Value:
    """Integers: ties to even. Of floats of at most 22 bits."""
    if HOST.x86 and HOST.lanes == 4:  # before SSE4.1 rint is a call a lane
        return cast(x + WHOLE, i32x16) - WHOLE_BITS
    rounded = call("llvm.rint.v16f32", x.ir.type, x)
    return Value(builder().fptosi(rounded.ir, i32x16.ir))


def to_bytes(x) -> Value:
    """The lowest byte of each integer."""
    return Value(builder().trunc(x.ir, u8x16.ir))
