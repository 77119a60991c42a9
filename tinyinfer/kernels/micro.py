"""Vectors in Numba, and micro-kernels: plain Python functions that the compiler runs.

    @micro
    def add_rows(t, a, b, y):           # a, b, y: addresses; t: numbers known to the compiler
        for r in range(t.rows):         # unrolled: Python runs this loop while Numba compiles a call
            store(y + 64 * r, load(a + 64 * r) + load(b))

    @native
    def f(t, part, parts, y, a, b):     # machine code, which calls it
        add_rows(t, at(a, 0), at(b, 0), at(y, 0))

What a micro-kernel gets are Values: numbers that the machine will have; of an array its address, and
of a tuple a list. Their operators write LLVM's instructions; vectors have 16 lanes on every CPU, and
LLVM keeps one in a register of 64 bytes, two of 32 or four of 16, so that layouts are the same
everywhere. Addresses are numbers of bytes. Nothing is checked.

`for k in loop(n)` is a loop of the machine, whose body is written once: `x = x + 1` in it would not go
round with it; and `with when(x < y)` is a condition of the machine. What they change lives in registers:

        sums = registers([zeros()])
        for k in loop(n):
            sums[0] = sums[0] + load(a + 64 * k)
"""

import operator
from contextlib import contextmanager
from functools import partial
from inspect import signature

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import _Intrinsic
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.core.typing.templates import signature as typed
from numba.extending import register_model

from .host import HOST
from .static import StaticType

LANES = 16
BYTES = 64  # of a vector of floats

i1, i8, i16, i32, i64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
f32, f64, void = ir.FloatType(), ir.DoubleType(), ir.VoidType()


class Vector(types.Type):
    """For Numba. The name tells compiled code for one CPU from that for another."""

    def __init__(self, name, element):
        self.ir = ir.VectorType(element, LANES)
        super().__init__(f"{name}({HOST.name})")


f32x16, i32x16, u8x16 = Vector("f32x16", f32), Vector("i32x16", i32), Vector("u8x16", i8)
f64x16 = ir.VectorType(f64, LANES)  # inside micro-kernels, for sums


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.ir)


# ---- micro-kernels ---------------------------------------------------------------------------------

BUILDERS = []  # Numba compiles one function at a time, under a lock


def builder():
    return BUILDERS[-1]


@contextmanager
def writing(b):
    BUILDERS.append(b)
    try:
        yield
    finally:
        BUILDERS.pop()


class Micro(_Intrinsic):
    """Callable from compiled code; and from another micro-kernel, of which it becomes a part."""

    def __call__(self, *args):
        return self.write(*args)


def micro(returns=None):
    """Make a function of Values a micro-kernel. What it `returns` is a type of Numba, if anything."""
    if callable(returns) and not isinstance(returns, types.Type):
        return micro()(returns)

    def make(write):
        names = ", ".join(signature(write).parameters)
        result = returns or types.void

        def codegen(context, b, sig, args):
            with writing(b):
                y = write(*[given(context, *each) for each in zip(sig.args, args)])
            return context.get_dummy_value() if returns is None else y.ir

        scope = {"codegen": codegen, "types_of": lambda *xs: result(*map(plain, xs))}
        # Numba reads the names of the arguments: so the function is made with them.
        exec(f"def {write.__name__}(typing, {names}): return types_of({names}), codegen", scope)
        typed = scope[write.__name__]
        typed.__module__, typed.__doc__ = write.__module__, write.__doc__
        made = Micro(write.__name__, typed)
        made.write = write
        made._register()
        return made

    return make


def plain(x):
    """Numbers are 64 bits of address or count, or a float32."""
    if isinstance(x, types.Integer | types.IntegerLiteral | types.Boolean):
        return types.intp
    return types.float32 if isinstance(x, types.Float) else x


def given(context, kind, x):
    """What the function sees: of an array its address; of a tuple a list."""
    if isinstance(kind, StaticType):
        return kind
    if isinstance(kind, types.Array):
        data = context.make_array(kind)(context, builder(), x).data
        return Value(builder().ptrtoint(data, i64))
    if isinstance(kind, types.BaseTuple):
        parts = cgutils.unpack_tuple(builder(), x)
        return [given(context, *each) for each in zip(kind, parts)]
    return Value(x)


# ---- values ----------------------------------------------------------------------------------------


class Value:
    """A number or vector that the machine will have. Beside it a Python number is a constant."""

    __slots__ = ("ir",)

    def __init__(self, x):
        self.ir = x

    @property
    def element(self):
        return getattr(self.ir.type, "element", self.ir.type)

    @property
    def floating(self):
        return self.element in (f32, f64)

    def beside(self, x):
        return x.ir if isinstance(x, Value) else constant(self.ir.type, x).ir

    # fmt: off
    def __add__(self, x): return self if is_zero(x) else self._by("fadd", "add", x)
    def __sub__(self, x): return self if is_zero(x) else self._by("fsub", "sub", x)
    def __mul__(self, x): return self if is_one(x) else self._by("fmul", "mul", x)
    def __truediv__(self, x): return self._by("fdiv", None, x)
    def __floordiv__(self, x): return self._by(None, "sdiv", x)
    def __mod__(self, x): return self._by(None, "srem", x)
    def __and__(self, x): return self._by(None, "and_", x)
    def __or__(self, x): return self._by(None, "or_", x)
    def __xor__(self, x): return self._by(None, "xor", x)
    def __invert__(self): return Value(builder().not_(self.ir))
    def __lshift__(self, x): return self._by(None, "shl", x)
    def __rshift__(self, x): return self._by(None, "ashr", x)
    def __neg__(self): return Value(builder().fneg(self.ir) if self.floating else builder().neg(self.ir))
    def __radd__(self, x): return self + x
    def __rmul__(self, x): return self * x
    def __rsub__(self, x): return Value(self.beside(x)) - self
    def __rtruediv__(self, x): return Value(self.beside(x)) / self
    def __lt__(self, x): return self.compared("<", x)
    def __gt__(self, x): return self.compared(">", x)
    def __le__(self, x): return self.compared("<=", x)
    def __ge__(self, x): return self.compared(">=", x)
    # fmt: on

    def _by(self, of_floats, of_integers, x):
        return Value(
            getattr(builder(), of_floats if self.floating else of_integers)(self.ir, self.beside(x))
        )

    def compared(self, how, x):
        """A mask; nothing is less or more than NaN, nor equal to it."""
        b = builder()
        return Value(
            (b.fcmp_ordered if self.floating else b.icmp_signed)(how, self.ir, self.beside(x))
        )


def is_zero(x):
    return type(x) is int and x == 0


def is_one(x):
    return type(x) is int and x == 1


def constant(kind, x) -> Value:
    """In every lane, if it is a vector."""
    many = isinstance(kind, ir.VectorType)
    element = kind.element if many else kind
    x = float(x) if element in (f32, f64) else int(x)
    return Value(ir.Constant(kind, [x] * kind.count if many else x))


def zeros(vector=f32x16) -> Value:
    return constant(vector.ir, 0)


def number(x) -> Value:
    """A count or address, for the machine."""
    return x if isinstance(x, Value) else constant(i64, x)


def values(a, b) -> list[Value]:
    """Beside a Value a Python number is a constant of its kind; beside another one, a count."""
    kind = next((x.ir.type for x in (a, b) if isinstance(x, Value)), i64)
    return [x if isinstance(x, Value) else constant(kind, x) for x in (a, b)]


def call(name, result, *args) -> Value:
    """A function of LLVM or of the CPU."""
    args = [a.ir if isinstance(a, Value) else a for a in args]
    module = builder().module
    known = module.globals.get(name)
    f = known or ir.Function(module, ir.FunctionType(result, [a.type for a in args]), name)
    return Value(builder().call(f, args))


SIGNS = {operator.add: Value.__add__, operator.sub: Value.__sub__, operator.mul: Value.__mul__}
SIGNS |= {operator.truediv: Value.__truediv__}


def _operators():
    """a + b of vectors, in compiled code."""
    for sign, write in SIGNS.items():
        kinds = [v for v in (f32x16, i32x16) if v is f32x16 or sign is not operator.truediv]
        cases = {"cases": [typed(v, v, v) for v in kinds]}
        infer_global(sign)(type(sign.__name__, (ConcreteTemplate,), cases))
        for v in kinds:
            lower_builtin(sign, v, v)(partial(_operate, write))


def _operate(write, context, b, sig, args):
    with writing(b):
        return write(*map(Value, args)).ir


_operators()

# ---- loops -----------------------------------------------------------------------------------------


def loop(stop, start=0, step=1):
    """`for k in loop(n):` what stands in it is done for k = 0 ... n - 1; also not at all."""
    b = builder()
    if type(start) is int and type(stop) is int and stop - start == step:
        yield number(start)
        return
    before, head = b.block, b.append_basic_block("loop")
    body, after = b.append_basic_block("body"), b.append_basic_block("end")
    b.branch(head)
    b.position_at_end(head)
    k = b.phi(i64)
    k.add_incoming(number(start).ir, before)
    b.cbranch(b.icmp_signed("<", k, number(stop).ir), body, after)
    b.position_at_end(body)
    yield Value(k)
    k.add_incoming(b.add(k, number(step).ir, flags=["nsw"]), b.block)
    stay_a_loop(b.branch(head))
    b.position_at_end(after)


@contextmanager
def when(mask):
    """`with when(x < y):` what stands in it is done only then."""
    with builder().if_then(mask.ir):
        yield


def stay_a_loop(branch):
    """LLVM shall not unroll it: what is worth unrolling is a loop of Python."""
    m = builder().module
    off = m.add_metadata([ir.MetaDataString(m, "llvm.loop.unroll.disable")])
    name = ir.values.MDValue(m, [off], name=str(len(m.metadata)))
    name.operands = (name, off)  # it begins with itself
    branch.set_metadata("llvm.loop", name)


class registers(list):
    """Values that live across loops; LLVM keeps the places in registers, if there are enough."""

    def __init__(self, values):
        super().__init__(map(place, values))

    def __getitem__(self, i):
        return Value(builder().load(list.__getitem__(self, i)))

    def __setitem__(self, i, x):
        builder().store(x.ir, list.__getitem__(self, i))

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def place(value):
    b = builder()
    with b.goto_entry_block():
        slot = b.alloca(value.ir.type)
    b.store(value.ir, slot)
    return slot
