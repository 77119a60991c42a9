"""NumPy's arrays, as machine code takes them: as they lie, and without counting who holds them.

What Numba does with an array takes as long as a small kernel. Here its object is read where it is; if
there are gaps between its numbers, that is a BufferError.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import NativeValue, register_model, unbox

i64 = ir.IntType(64)


def kind_of(x):
    if isinstance(x, np.ndarray):
        return Borrowed(numba.from_dtype(x.dtype), x.ndim)
    if type(x) is tuple:
        return types.Tuple([types.intp if isinstance(each, int) else memory for each in x])
    return numba.typeof(x)


class Borrowed(types.Array):
    """An array without gaps, that somebody else keeps while a kernel runs."""

    def __init__(self, dtype, ndim):
        super().__init__(dtype, ndim, "C", name=f"borrowed({dtype}, {ndim}d)")


class Memory(types.Type):
    """An array, of which only is told where it is: so machine code serves arrays of any shape."""

    def __init__(self):
        super().__init__("memory")


memory = Memory()


@register_model(Borrowed)
class BorrowedModel(models.StructModel):
    """An array's, without a count that would be looked after: of that there is an address, which is 0."""

    def __init__(self, manager, kind):
        usual = models.ArrayModel(manager, kind)
        members = dict(zip(usual._fields, usual._members)) | {"meminfo": types.voidptr}
        super().__init__(manager, kind, [*members.items()])


@register_model(Memory)
class MemoryModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, i64)


def member(c, x, i, kind=i64):
    """Of NumPy's object x: after what every object begins with there are the address of the numbers, how
    many dimensions, their sizes, their strides, two more words, and flags."""
    place = c.builder.gep(x, [ir.Constant(i64, object.__basicsize__ + 8 * i)])
    return c.builder.load(c.builder.bitcast(place, kind.as_pointer()))


def with_gaps(c, x):
    """Whether it has, which is an error then."""
    b = c.builder
    gaps = b.not_(b.trunc(member(c, x, 6, ir.IntType(32)), ir.IntType(1)))
    with b.if_then(gaps, likely=False):
        c.pyapi.err_set_string("PyExc_BufferError", "an array with gaps")
    return gaps


@unbox(Memory)
def unbox_memory(kind, x, c):
    return NativeValue(member(c, x, 0), is_error=with_gaps(c, x))


@unbox(Borrowed)
def unbox_borrowed(kind, x, c):
    """Nobody counts who holds it."""
    from numba.np.arrayobj import populate_array  # with much else

    b, size = c.builder, c.context.get_abi_sizeof(c.context.get_data_type(kind.dtype))
    made = c.context.make_array(kind)(c.context, b)
    sizes = member(c, x, 2, i64.as_pointer())
    shape = [b.load(b.gep(sizes, [ir.Constant(i64, i)])) for i in range(kind.ndim)]
    strides = [ir.Constant(i64, size)]
    for n in shape[:0:-1]:
        strides.insert(0, b.mul(strides[0], n))
    count = ir.Constant(i64, 1)
    for n in shape:
        count = b.mul(count, n)
    nothing = c.context.get_constant_null(types.voidptr)
    numbers = b.inttoptr(member(c, x, 0), made.data.type)
    populate_array(made, numbers, shape, strides[: kind.ndim], size, nothing)
    return NativeValue(made._getvalue(), is_error=with_gaps(c, x))
