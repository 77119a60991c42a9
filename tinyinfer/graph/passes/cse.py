from .rewrite import graph_pass, rewrite


@graph_pass
def cse(graph):
    """Two equal pure steps are one, and two equal constants:

        f(x) + f(x)      ->  y = f(x); y + y
        a * b + b * a    ->  y = a * b; y + y

    Equal means bit for bit: 0.0 and -0.0 are two constants, NaN is one if its bits are.
    """
    seen = {}
    return rewrite(graph, lambda n: seen.setdefault(key(n), n))


def key(n):
    """What equal nodes have in common."""
    if n.op is None:
        return n if n.value is None else (n.spec, *bits(n.value))
    if not n.op.pure:
        return n
    inputs = sorted(n.inputs, key=lambda x: x.born) if n.op.commutative else n.inputs
    return n.op, repr(n.op), *inputs  # an attribute 0.0 equals -0.0; what one reads does not


def bits(x) -> tuple:
    """Which axes repeat themselves, and the bytes of one turn of them."""
    repeats = tuple([step == 0 and n > 1 for n, step in zip(x.shape, x.strides)])
    return repeats, x[tuple([slice(1) if r else slice(None) for r in repeats])].tobytes()
