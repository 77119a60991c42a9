"""Numbers known to the compiler: they are part of a type. So each set of them has machine code of its
own, which Numba can keep on disk, as it cannot for functions that are made at run time."""

from numba import types
from numba.core.datamodel import models
from numba.core.imputils import lower_constant, lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, register_model, typeof_impl, unbox

from ..errors import ArgumentError


class Static:
    """Static(rows=14, vectors=2): compiled code reads them as attributes, and micro-kernels too, for
    which they may also be tuples and text."""

    def __init__(self, **what):
        self.__dict__.update(what)
        self.type = StaticType(what)

    def __repr__(self):
        return str(self.type)


class StaticType(types.Type):
    def __init__(self, what):
        super().__init__(f"Static({', '.join(f'{k}={v!r}' for k, v in what.items())})")
        self.what = what
        for k, v in what.items():
            if hasattr(self, k):
                raise ArgumentError(
                    f"Static: types of Numba have a {k!r} already: rename {k}={v!r}"
                )
            setattr(self, k, v)


NOTHING = Static()

register_model(StaticType)(models.OpaqueModel)
typeof_impl.register(Static)(lambda x, context: x.type)
lower_constant(StaticType)(lambda context, builder, kind, x: context.get_dummy_value())
unbox(StaticType)(lambda kind, x, c: NativeValue(c.context.get_dummy_value()))


@infer_getattr
class Attributes(AttributeTemplate):
    key = StaticType

    def generic_resolve(self, kind, name):
        x = kind.what.get(name)
        return types.literal(x) if isinstance(x, int) else None


@lower_getattr_generic(StaticType)
def attribute(context, builder, kind, value, name):
    return context.get_constant(types.intp, int(kind.what[name]))
