"""A kernel in several threads: a task for each part of the result.

    for part in range(parts):                # each by a thread: crew.py
        kernel(t, part, parts, *args)

The loop is one for all kernels, of whose arguments it only knows where they are; for each kernel there is
a task that takes them from there.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .crew import EACH_PART, TASKS
from .simd import i64


@njit(cache=True, nogil=True)
def launch(kernel, loop, t, parts, args):
    do_all(kernel, loop, t, parts, args)


@intrinsic
def do_all(typing, kernel, loop, t, parts, args):
    """The function at the address `kernel`, of these arguments, for each part: by the function at `loop`,
    `each_part`, which for all kernels is the same."""
    kinds = (t, types.intp, types.intp, *args.types)

    def codegen(context, b, sig, given):
        kernel, loop, t, parts, args = given
        there = lambda address, kinds: b.inttoptr(address, pointer_to(context, kinds))
        functions = there(kernel, kinds), there(loop, EACH_PART)
        write_launch(context, b, *functions, kinds, parts, cgutils.unpack_tuple(b, args))
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, t, types.intp, args), codegen


def pointer_to(context, kinds):
    return context.call_conv.get_function_type(types.none, kinds).as_pointer()


def write_launch(context, b, kernel, loop, kinds, parts, args):
    """The loop is given where the arguments are, and a function that takes them from there."""
    kept = [kernel, parts, *args]
    place = cgutils.alloca_once_value(b, cgutils.make_anonymous_struct(b, kept))
    convention = context.call_conv
    task = ir.Function(b.module, TASKS, b.module.get_unique_name("task"))
    task.linkage = "internal"
    inside = ir.IRBuilder(task.append_basic_block())
    part, there = task.args
    kernel, n, *args = cgutils.unpack_tuple(
        inside, inside.load(inside.inttoptr(there, place.type)), len(kept)
    )
    t = context.get_dummy_value()
    convention.call_function(inside, kernel, types.none, kinds, (t, part, n, *args))
    inside.ret_void()
    three = b.ptrtoint(task, i64), parts, b.ptrtoint(place, i64)
    convention.call_function(b, loop, types.none, EACH_PART, three)
