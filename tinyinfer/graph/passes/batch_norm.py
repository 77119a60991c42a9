from ...core.tensor import Node
from ...ops import sqrt
from ...ops.conv import Conv2d
from ...ops.elementwise import Add
from ...ops.linalg import MatMul
from ...ops.norm import BatchNorm
from ...ops.shape import Reshape
from .rewrite import fixed, graph_pass, rewrite, users
from .rewrite import tensor_of as T


@graph_pass
def batch_norm(graph):
    """Batch normalisation moves into the weights of the convolution or of the product before it:

        s = weight / sqrt(var + eps)
        batch_norm(conv2d(x, w) + b)  ->  conv2d(x, w * s) + ((b - mean) * s + bias)

    only if nothing else uses those steps, and if w, b and the statistics follow from constants and
    from States that the graph leaves alone. Then so do w * s and the new bias: they are computed
    again when a State has changed, and never stale. Jacob et al. 2018, section 3.2.
    """
    used, known, inside = users(graph), fixed(graph), set(graph.steps)

    def folds(n):
        match n:
            case Node(BatchNorm(), (y, *statistics)):
                steps, weights = below(y)
                alone = all(used[x] == 1 and x in inside for x in steps)
                return bool(steps) and alone and known.issuperset([*statistics, *weights])

    return rewrite(graph, folded, among={n for n in graph.steps if folds(n)})


def folded(n):
    y, mean, var, weight, bias = n.inputs
    x, b = terms(y)
    scale = T(weight) / sqrt(T(var) + n.op.eps)
    shift = -T(mean) if b is None else T(b).reshape(-1) - T(mean)
    return scaled(x, scale) + (shift * scale + T(bias)).reshape(column(n))


def scaled(y, scale):
    """scale[c] * y[:, c], by way of the weights."""
    match y:
        case Node(Conv2d() as conv, (x, w)):
            return conv(T(x), T(w) * scale.reshape(-1, 1, 1, 1))
        case Node(MatMul() as product, (x, w)):
            return product(T(x), T(w) * scale)
        case Node(Reshape(shape), (x,)):
            return scaled(x, scale).reshape(shape)


def below(y) -> tuple[list[Node], list[Node]]:
    """The steps from y down to the product, and the weights in them; nothing, if there is none."""
    x, b = terms(y)
    steps, weights = [y], [] if b is None else [b]
    while isinstance(x.op, Reshape) and x.spec.shape[:2] == x.inputs[0].spec.shape[:2]:
        steps.append(x)
        x = x.inputs[0]
    if isinstance(x.op, Conv2d) or isinstance(x.op, MatMul) and len(x.spec.shape) == 2:
        return [*steps, x], [*weights, x.inputs[1]]
    return [], []


def terms(y) -> tuple[Node, Node | None]:
    """y = x + b, with one b for each channel, if there is one."""
    biases = column(y), (1, *column(y))
    if isinstance(y.op, Add):
        for x, b in (y.inputs, y.inputs[::-1]):
            if b.spec.shape in biases and x.spec.shape == y.spec.shape:
                return x, b
    return y, None


def column(y) -> tuple[int, ...]:
    """The shape of one number for each channel, beside y."""
    return y.spec.shape[1], *[1] * (len(y.spec.shape) - 2)
