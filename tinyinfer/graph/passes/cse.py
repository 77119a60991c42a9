from .rewrite import graph_pass, rewrite


@graph_pass
def cse(graph):
    """Two equal pure steps are one: f(x) + f(x) -> y = f(x); y + y"""
    seen = {}

    def key(n):
        if n.op:
            return (n.op, n.inputs) if n.op.pure else n
        return n if n.value is None else (n.spec, n.value.tobytes())

    return rewrite(graph, lambda n: seen.setdefault(key(n), n))
