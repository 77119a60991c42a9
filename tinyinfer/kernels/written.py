"""What a generated function is made of (runtime/codegen.py writes it): a whole graph as one micro-kernel.

    gemm = there(gemm.gemm)

    @whole
    def net(arena, image, weight, result, constants):        # addresses
        a = float32(arena + 640, 64, 120)                    # an array, of which only the place is unknown
        gemm(Static(rows=14), 0, 1, a, image, weight)        # a call of a kernel, where its code lies
        if flag(flags(arena + 64)):                          # if, while and for are those of the machine
            ...

    @native
    def run(arena, image, weight, result, constants):
        net(arena, image, weight, result, constants)

A kernel's machine code is not copied: it is called at its address. So it is compiled once, for all
graphs that use it; and this function, in which there is nothing but calls, in a moment.
"""

import ast
import hashlib
import inspect
import os
import textwrap
from contextlib import contextmanager
from functools import cache
from math import prod

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from .borrowed import Borrowed, memory
from .crew import EACH_PART, each_part
from .finite import zero_times
from .gather import outside
from .launch import write_launch
from .micro import Value, builder, call, i8, i32, i64, loop, micro, number, void
from .native import address_of, full_name
from .static import Static

# ---- arrays ----------------------------------------------------------------------------------------


class Array:
    """Without gaps."""

    def __init__(self, address, dtype, shape):
        self.address, self.dtype, self.shape = number(address), np.dtype(dtype), shape

    def reshape(self, *shape):
        return Array(self.address, self.dtype, shape)

    def __add__(self, size):
        """The address of what lies so many bytes behind its begin."""
        return self.address + size

    @property
    def kind(self):
        return Borrowed(numba.from_dtype(self.dtype), len(self.shape))

    def struct(self, context):
        """As Numba has it."""
        size, kind = self.dtype.itemsize, context.get_data_type(self.kind)
        strides = [size * prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        numbers = ir.Constant(kind.elements[5], self.shape), ir.Constant(kind.elements[6], strides)
        nothing = [ir.Constant(k, None) for k in kind.elements[:2]]
        count = ir.Constant(i64, prod(self.shape)), ir.Constant(i64, size)
        where = ir.Constant(kind.elements[4], ir.Undefined)
        made = ir.Constant.literal_struct([*nothing, *count, where, *numbers])
        made.type = kind
        return builder().insert_value(made, builder().inttoptr(self.address.ir, where.type), 4)


def _maker(dtype):
    return lambda address, *shape: Array(address, dtype, shape)


DTYPES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()
MAKERS = {("flags" if name == "bool" else name): _maker(name) for name in DTYPES}
globals().update(MAKERS)


def flag(x) -> Value:
    """Is it true?"""
    x = builder().load(builder().inttoptr(x.address.ir, i8.as_pointer()))
    return Value(builder().icmp_signed("!=", x, i8(0)))


def finite(x) -> Value:
    """Are all numbers of the array?"""
    return zero_times.write(x.address, number(prod(x.shape))).compared("==", 0)


def inside(x, n) -> Value:
    """Are all of them among 0 ... n - 1?"""
    return outside.write(x.address, number(prod(x.shape)), n).compared(">=", 0)


def copy(to, x):
    """Their numbers are as many."""
    b, size = builder(), prod(x.shape) * x.dtype.itemsize
    pointers = [b.inttoptr(a.address.ir, i8.as_pointer()) for a in (to, x)]
    cgutils.raw_memcpy(b, *pointers, ir.Constant(i64, size), 1)


def constant(constants, i) -> Value:
    """The address of number i of the arrays that never change."""
    place = builder().inttoptr((constants + 8 * i).ir, i64.as_pointer())
    return Value(builder().load(place))


# ---- calls -----------------------------------------------------------------------------------------


class there:
    """A kernel, for a generated function: f(t, part, parts, *arrays and numbers)."""

    def __init__(self, f):
        self.f = f

    def __call__(self, t, part, parts, *args):
        context, kinds = cpu_target.target_context, kinds_of(t, args)
        values = [
            context.get_dummy_value(),
            i64(part),
            i64(parts),
            *(given(context, x) for x in args),
        ]
        kernel = external(self.f, kinds)
        context.call_conv.call_function(builder(), kernel, types.none, kinds, values)

    def in_parts(self, t, parts, *args):
        """Each part in a thread."""
        context, kinds = cpu_target.target_context, kinds_of(t, args)
        loop = external(each_part, EACH_PART)
        write_launch(
            context, builder(), external(self.f, kinds), loop, kinds, i64(parts),
            [given(context, x) for x in args],
        )  # fmt: skip


def kinds_of(t, args):
    return (t.type, types.intp, types.intp, *map(kind_of, args))


def kind_of(x):
    if isinstance(x, Array):
        return x.kind
    if type(x) is tuple:
        return types.Tuple([types.intp if isinstance(each, int) else memory for each in x])
    return numba.typeof(x)


def given(context, x):
    """Its value for Numba."""
    b = builder()
    if isinstance(x, Static):
        return context.get_dummy_value()
    if isinstance(x, Array):
        return x.struct(context)
    if isinstance(x, tuple):
        kind = context.get_value_type(kind_of(x))
        parts = [each.address.ir if isinstance(each, Array) else i64(each) for each in x]
        made = ir.Constant(kind, ir.Undefined)
        for i, each in enumerate(parts):
            made = b.insert_value(made, each, i)
        return made
    return context.get_constant(kind_of(x), x)


@cache
def symbol(f, kinds) -> str:
    """The name of its machine code, which LLVM knows from then on."""
    name = f"{full_name(f)}.{hashlib.sha256(str(kinds).encode()).hexdigest()[:16]}"
    binding.add_symbol(name, address_of(f, kinds))
    return name


def external(f, kinds):
    """The function for LLVM."""
    kind = cpu_target.target_context.call_conv.get_function_type(types.none, kinds)
    return cgutils.get_or_insert_function(builder().module, kind, symbol(f, kinds))


PYTHON = ir.FunctionType(i32, (i64,))


def python(callback, step):
    """Python does this step; if there was an error, nothing else is done."""
    b = builder()
    f = b.inttoptr(callback.ir, PYTHON.as_pointer())
    failed = b.icmp_signed("!=", b.call(f, [i64(step)]), i32(0))
    go_on = b.append_basic_block("go_on")
    b.cbranch(failed, ENDS[-1], go_on)
    b.position_at_end(go_on)


SECONDS = "_time64" if os.name == "nt" else "time"  # of the C library


def listen():
    """Once a second, in a loop: let Python see whether somebody wants to stop, as by Ctrl-C."""
    b, context = builder(), cpu_target.target_context
    last = cgutils.alloca_once(b, i64)  # 0 in the beginning
    then, now = b.load(last), call(SECONDS, i64, i64(0)).ir  # instead of null: where to put it too
    b.store(now, last)
    with b.if_then(b.and_(b.icmp_signed("!=", then, i64(0)), b.icmp_signed("!=", then, now))):
        has_gil = call("PyGILState_Ensure", i32)
        wanted = call("PyErr_CheckSignals", i32).ir
        call("PyGILState_Release", void, has_gil)
        with b.if_then(b.icmp_signed("!=", wanted, i32(0)), likely=False):
            context.call_conv.return_exc(b)  # which Python has noted


# ---- if, while, for --------------------------------------------------------------------------------

ENDS = []  # the block behind the function that is written


def whole(f):
    """Make a function of addresses a micro-kernel: what Python would decide, the machine does."""

    def write(*addresses):
        b = builder()
        ENDS.append(b.append_basic_block("end"))
        scope = f.__globals__ | {"either": either, "loop": loop, "turns": turns}
        exec(compile(turned(f), f.__code__.co_filename, "exec"), scope)
        try:
            scope[f.__name__](*addresses)
        finally:
            end = ENDS.pop()
        b.branch(end)
        b.position_at_end(end)

    write.__signature__, write.__name__ = inspect.signature(f), f.__name__
    write.__module__ = f.__module__
    return micro(write)


def turned(f) -> ast.Module:
    """Its source, with `with` and generators of micro-kernels for what Python would decide."""
    module = ast.parse(textwrap.dedent(inspect.getsource(f)))
    module.body[0].decorator_list = []
    ast.increment_lineno(module, f.__code__.co_firstlineno - 1)
    return ast.fix_missing_locations(Turn().visit(module))


class Turn(ast.NodeTransformer):
    def visit_If(self, n):
        self.generic_visit(n)
        names = f"then{n.lineno}, otherwise{n.lineno}"
        made = ast.parse(
            f"with either(0) as ({names}):"
            + "\n with {}: 0\n with {}: 0".format(*names.split(", "))
        )
        (made,) = made.body
        made.items[0].context_expr.args = [n.test]
        made.body[0].body, made.body[1].body = n.body, n.orelse or [ast.Pass()]
        return made

    def visit_While(self, n):
        self.generic_visit(n)
        made = ast.parse("for _ in turns(lambda: 0): 0").body[0]
        made.iter.args[0].body, made.body = n.test, n.body
        return made

    def visit_Not(self, n):
        return ast.Invert()

    def visit_Name(self, n):
        return ast.Name("loop", n.ctx) if n.id == "range" else n


@contextmanager
def either(test):
    with builder().if_else(test.ir) as sides:
        yield sides


def turns(test):
    """As long as it is true, looked at before each."""
    b = builder()
    head, body, after = [b.append_basic_block(name) for name in ("while", "body", "end")]
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(test().ir, body, after)
    b.position_at_end(body)
    yield
    b.branch(head)
    b.position_at_end(after)


__all__ = ["constant", "copy", "finite", "flag", "inside", "listen", "python", "there", "whole"]
__all__ += MAKERS
