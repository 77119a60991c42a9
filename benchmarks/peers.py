"""The networks of benchmarks/networks.py: ours, and the same in onnxruntime, PyTorch and JAX."""

import os
from functools import partial
from pathlib import Path

MODELS = Path(__file__).parents[1] / "models"
LR = 0.01


def with_threads(threads):
    """Before JAX is imported: it reads it only once."""
    os.environ["JAX_PLATFORMS"], os.environ["NPROC"] = "cpu", str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"


# ---- ours ------------------------------------------------------------------------------------------


def build(name):
    """With the same values each time."""
    import tinyinfer as ti
    from tinyinfer import train

    ti.manual_seed(0)
    if name == "conv":
        return conv(ti.nn)
    return train.modelfile.load(MODELS / f"{name}.py").build()


INPUTS = {"lenet": (1, 32, 32), "lenet_caffe": (1, 28, 28), "mlp": (1, 28, 28)}
INPUTS |= {"conv": (3, 32, 32), "resnet": (3, 32, 32)}


def batch(name, images):
    import numpy as np

    x = np.random.default_rng(0).standard_normal((images, *INPUTS[name]), np.float32)
    return x, np.arange(images) % 10


def our_step(model):
    """A step of SGD with momentum, which takes images and labels, and gives the loss."""
    import tinyinfer as ti

    model.train()
    optimizer = ti.optim.SGD(model.parameters(), LR, momentum=0.9)

    @ti.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


# ---- onnxruntime -----------------------------------------------------------------------------------


def onnx_of(model, x, threads):
    """(function without arguments, what it gives): onnxruntime on the graph of the model in use."""
    from kernels import session

    import tinyinfer as ti
    from tinyinfer.graph.passes import split

    with ti.no_grad():
        graph = ti.optimize(ti.trace(model, ti.tensor(x)), ["strip"])
    prologue, body = split(graph)  # as transposed weights
    writer = Onnx()
    known = zip(body.inputs[1:], prologue.run_all(()))
    writer.constants |= {writer.name(n): value for n, value in known}
    writer.constants |= {writer.name(n): s.numpy() for n, s in body.states.items()}
    for n in body.steps:
        getattr(writer, n.op.name)(n.op, writer.name(n), *n.inputs)
    used = {name for node in writer.nodes for name in node.input}
    constants = {name: value for name, value in writer.constants.items() if name in used}
    return session(writer.nodes, {writer.name(body.inputs[0]): x}, constants, threads)


class Onnx:
    """A method an op: nodes of ONNX, as an exporter would write them."""

    def __init__(self):
        self.names, self.nodes, self.constants = {}, [], {}

    def name(self, n):
        return self.names.setdefault(n, f"v{len(self.names)}")

    def node(self, op, y, *xs, **attributes):
        from onnx import helper

        names = [x if isinstance(x, str) else self.name(x) for x in xs]
        self.nodes.append(helper.make_node(op, names, [y], **attributes))

    def constant(self, y, value):
        import numpy as np

        self.constants[f"{y}.c"] = np.array(value, np.int64)
        return f"{y}.c"

    def conv2d(self, op, y, x, w):
        (top, bottom), (left, right) = op.padding
        more = dict(strides=op.stride, dilations=op.dilation, group=op.groups)
        self.node("Conv", y, x, w, pads=[top, left, bottom, right], **more)

    def matmul(self, op, y, x, w):
        self.node("Gemm", y, x, w)

    def add(self, op, y, x, z):
        """A bias is the third input of the node before."""
        last, bias = self.nodes[-1], self.constants.get(self.name(z))
        if bias is None or last.output[0] != self.name(x) or last.op_type not in ("Conv", "Gemm"):
            return self.node("Add", y, x, z)
        self.constants[self.name(z)] = bias.reshape(-1)
        last.input.append(self.name(z))
        last.output[0] = y

    def relu(self, op, y, x):
        self.node("Relu", y, x)

    def max_pool2d(self, op, y, x):
        self.node("MaxPool", y, x, kernel_shape=op.size, strides=op.stride)

    def batch_norm(self, op, y, x, mean, var, weight, bias):
        self.node("BatchNormalization", y, x, weight, bias, mean, var, epsilon=op.eps)

    def mean(self, op, y, x):  # of rows and columns
        self.node("GlobalAveragePool", f"{y}.pooled", x)
        self.node("Flatten", y, f"{y}.pooled")

    def reshape(self, op, y, x):
        self.node("Reshape", y, x, self.constant(y, op.shape))


# ---- PyTorch --------------------------------------------------------------------------------------


def torch_step(model, images, labels):
    """The same, without arguments."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_of(name, parameters):
    """The network with these values."""
    import torch

    model = TORCH[name](torch.nn)
    with torch.no_grad():
        for p, value in zip(model.parameters(), parameters, strict=True):
            p.copy_(torch.from_numpy(value))
    return model


def lenet(nn):
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def lenet_caffe(nn):
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)),
    )


def mlp(nn):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def conv(nn):
    """Four convolutions of 3 x 3, on images of 3 x 32 x 32: in ours too."""
    pair = lambda i, o: (
        *(nn.Conv2d(i, o, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(o, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    )
    return nn.Sequential(*pair(3, 32), *pair(32, 64), nn.Flatten(), nn.Linear(4096, 10))


TORCH = {"lenet": lenet, "lenet_caffe": lenet_caffe, "mlp": mlp, "conv": conv}


# ---- JAX -------------------------------------------------------------------------------------------


def jax_step(parameters, images, labels):
    """Of LeNet-5: one jitted function, which may write over what it is given. It gives the loss."""
    import jax
    from jax import numpy as jnp

    def loss(parameters, x, y):
        scores = jax.nn.log_softmax(jax_lenet(parameters, x))
        return -jnp.take_along_axis(scores, y[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(parameters, velocities, x, y):
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        velocities = [0.9 * v + g for v, g in zip(velocities, gradients)]
        return [p - LR * v for p, v in zip(parameters, velocities)], velocities, value

    now = [jnp.array(p) for p in parameters], [jnp.zeros(p.shape) for p in parameters]
    x, y = jnp.array(images), jnp.array(labels)

    def step():
        nonlocal now
        *now, value = update(*now, x, y)
        return value.block_until_ready()

    return step


def jax_lenet(parameters, x):
    import jax
    from jax import lax
    from jax import numpy as jnp

    (w1, b1, w2, b2), dense = parameters[:4], parameters[4:]
    for w, b in (w1, b1), (w2, b2):
        x = jax.nn.relu(lax.conv(x, w, (1, 1), "VALID") + b[:, None, None])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = x.reshape(len(x), -1)
    for w, b in zip(dense[:-2:2], dense[1:-2:2]):
        x = jax.nn.relu(x @ w.T + b)
    return x @ dense[-2].T + dense[-1]
