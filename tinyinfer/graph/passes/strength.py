import numpy as np

from ...core.tensor import Node
from ...ops import sqrt
from ...ops.elementwise import Div, Pow
from ..graph import nbytes
from .fold import constant
from .rewrite import equations, fixed, graph_pass, rewrite, settled
from .rewrite import tensor_of as T


@graph_pass
def strength(graph):
    """Dear steps in cheaper ones: powers in products and roots, and a division by what is known
    before anything runs in a product with its reciprocal, which is then known as well.

        x ** 2, x ** 3, x ** 4    ->  x * x, x * x * x, (x * x) * (x * x)
        x ** 0.5, x ** -0.5       ->  sqrt(x), 1 / sqrt(x)
        x ** -1                   ->  1 / x
        x / c                     ->  x * (1 / c)

    The last is exact for powers of two, else two roundings. A constant whose reciprocal is not a
    normal number stays a divisor; so do half floats that are not constants, of whom nobody knows.
    """
    return settled(graph, lambda g: rewrite(g, equations(powers, quotients(fixed(g)))))


# fmt: off


def powers(_, step):
    match step:
        case Pow(), x, 2:     return T(x) * T(x)
        case Pow(), x, 3:     return T(x) * T(x) * T(x)
        case Pow(), x, 4:     return (y := T(x) * T(x)) * y
        case Pow(), x, 0.5:   return sqrt(T(x))
        case Pow(), x, -0.5:  return 1.0 / sqrt(T(x))
        case Pow(), x, -1:    return 1.0 / T(x)


# fmt: on


def quotients(known):
    """The table of x / c -> x * (1 / c), for a graph in which these nodes are known."""

    def table(n, _):
        match n:
            case Node(Div(), (x, c)) if (
                c in known and n not in known and c.spec.dtype == n.spec.dtype
            ):
                if c.value is not None:
                    return (r := reciprocal(c)) and T(x) * T(r)
                if nbytes(c.spec) < nbytes(x.spec) and c.spec.dtype.itemsize > 2:
                    return T(x) * (1.0 / T(c))

    return table


def reciprocal(c) -> Node | None:
    r = constant((1.0 / T(c)).node)
    with np.errstate(invalid="ignore"):
        tiny = np.finfo(c.spec.dtype).tiny
        return r if r and (np.isfinite(r.value) & (np.abs(r.value) >= tiny)).all() else None
