"""Kernels against onnxruntime, against PyTorch where it is installed, and against what the machine can
do at most; every rival in turns, in one run.

python benchmarks/kernels.py [--threads 2] [--only gemm conv3x3 ...] [--out kernels.json]

Ours is a graph of the one op, its weights constant as theirs are, in the arena of its plan: packing is
done before, laying out images in each call. `peak` is the share of the multiplications with additions
that this machine does in a second (of one thread), measured in the same turns.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from math import exp, log

from compare import arguments, medians, use_threads


@dataclass
class Case:
    row: str
    name: str
    ours: object  # function without arguments
    peers: dict = field(default_factory=dict)  # name -> function
    flops: float = 0.0
    integer: bool = False
    chosen: str = ""


BARS = {  # row: (what it is compared with, at most; the least share of the peak)
    "gemm": ("onnxruntime", 1.05, 0.85),
    "gemm_int8": ("onnxruntime", 1.1, None),
    "conv3x3": ("onnxruntime", 0.55, None),
    "conv3x3_int8": ("onnxruntime", 1.0, None),
    "conv_others": ("onnxruntime", 1.0, None),
    "depthwise": ("onnxruntime", 0.8, None),
    "lenet": ("onnxruntime", 0.45, None),
    "lenet_gradients": ("PyTorch", 0.2, None),
    "lenet_64": (None, None, 0.85),
    "gradients": (None, None, 0.75),
    "elementwise": ("copy", 1 / 0.85, None),
    "indirection": (None, None, None),
}


def main():
    options = arguments(__doc__.partition("\n")[0], rounds=25, more=more)
    if options.out:
        open(options.out, "a").close()  # before anything is measured
    use_threads(options.threads)
    import tinyinfer as ti

    ti.set_num_threads(options.threads)
    found = []
    for row in options.only or BARS:
        cases = ROWS[row](options.threads)
        results = [measured(case, options.rounds) for case in cases]
        told(row, results, options.threads)
        found += results
    if options.out:
        with open(options.out, "w") as file:
            json.dump({"threads": options.threads, "results": found}, file, indent=1)


def more(parser):
    parser.add_argument("--only", nargs="+", choices=BARS)
    parser.add_argument("--out", help="a file of JSON")


# ---- measuring -------------------------------------------------------------------------------------


def measured(case, rounds) -> dict:
    rivals = {"tinyinfer": case.ours, **case.peers}
    if case.flops:
        rivals["peak"] = peak_loop(case.flops, case.integer)
    seconds = medians(rivals, rounds)
    ours = seconds["tinyinfer"]
    return {
        "row": case.row, "case": case.name, "chosen": case.chosen, "seconds": seconds,
        "ratios": {name: ours / t for name, t in seconds.items() if name not in ("tinyinfer", "peak")},
        "peak": seconds["peak"] / ours if case.flops else None,
        "rate": case.flops / ours / 1e9,
    }  # fmt: skip


def peak_loop(flops, integer):
    """So much arithmetic as the machine can do at most."""
    from tinyinfer.runtime import peak

    loop, each = (peak.int8_loop, peak.INT8_OPS) if integer else (peak.float_loop, peak.FLOPS)
    return partial(loop, max(1, int(flops / each)))


def told(row, results, threads):
    from rich.console import Console
    from rich.table import Table

    peers = list(dict.fromkeys(name for r in results for name in r["ratios"]))
    columns = "case", "ours", *(f"ours / {p}" for p in peers), "GFLOP/s", "of peak", "chosen"
    table = Table(*columns, title=f"{row}, {threads} thread{'s' * (threads > 1)}")
    for r in results:
        ratios = [f"{r['ratios'][p]:.2f}" if p in r["ratios"] else "" for p in peers]
        rate = f"{r['rate']:.0f}" if r["rate"] else ""
        peak = f"{r['peak']:.0%}" if r["peak"] else ""
        us = f"{r['seconds']['tinyinfer'] * 1e6:.1f} µs"
        table.add_row(r["case"], us, *ratios, rate, peak, r["chosen"])
    for column in table.columns[1:-1]:
        column.justify = "right"
    console = Console(width=150)
    console.print(table)
    for line in summary(row, results, peers):
        console.print(line)


def summary(row, results, peers):
    bar_peer, most, least = BARS[row]
    for p in peers:
        found = [r["ratios"][p] for r in results if p in r["ratios"]]
        mean = exp(sum(map(log, found)) / len(found))
        bar = f" (bar {most:.2f}: {'met' if mean <= most else 'not met'})" if p == bar_peer else ""
        yield f"  geometric mean of ours / {p}: {mean:.3f}{bar}"
    shares = [r["peak"] for r in results if r["peak"]]
    if least and shares:
        mean = exp(sum(map(log, shares)) / len(shares))
        met = "met" if mean >= least else "not met"
        yield f"  geometric mean of the share of the peak: {mean:.1%} (bar {least:.0%}: {met})"


# ---- ours ------------------------------------------------------------------------------------------


def ours(fn, *arrays, layouts=None):
    """(function without arguments, results, what was chosen): fn, of these arrays, in an arena."""
    import tinyinfer as ti

    with ti.no_grad():
        return ours_of(
            ti.optimize(ti.trace(fn, *map(ti.tensor, arrays)), ["strip", "fold"]),
            *arrays,
            layouts=layouts,
        )


def aligned(spec):
    """As in an arena, and as onnxruntime's arrays are."""
    from tinyinfer.graph.graph import nbytes
    from tinyinfer.runtime import arena

    return arena.aligned(nbytes(spec), 64).view(spec.dtype).reshape(spec.shape)


def ours_of(graph, *arrays, layouts=None):
    import numpy as np

    from tinyinfer.graph.passes import split
    from tinyinfer.runtime.arena import Arena
    from tinyinfer.runtime.plan import Plan
    from tinyinfer.runtime.select import Selection, select

    selection = Selection()
    prologue, body = split(select(graph, selection, layouts))
    plan = Plan(body, selection=selection)
    arena = Arena(plan)
    results = [aligned(n.spec) for n in body.outputs]
    given = [aligned(n.spec) for n in body.inputs]
    for there, x in zip(given, [*arrays, *prologue.run_all(())]):
        np.copyto(there, x)
    states = {s: s.numpy() for s in body.states.values()}
    arena.fill(given, results, states)
    calls = [(run, tuple(args)) for _, run, args in arena.calls]

    def run():
        for f, args in calls:
            f(*args)

    run()
    return run, results, ", ".join(plan.kernels[n].name for n in plan.values.work)


# ---- peers -----------------------------------------------------------------------------------------


def session(nodes, inputs, constants, threads):
    """onnxruntime on these nodes, its arrays bound once: no conversion is in the timing."""
    import numpy as np
    import onnxruntime as ort
    from onnx import helper as h
    from onnx import numpy_helper as nh

    info = lambda name, x: h.make_tensor_value_info(
        name, h.np_dtype_to_tensor_dtype(x.dtype), x.shape
    )
    result = h.make_empty_tensor_value_info(nodes[-1].output[0])
    graph = h.make_graph(
        nodes, "g", [info(k, x) for k, x in inputs.items()], [result],
        [nh.from_array(np.ascontiguousarray(x), k) for k, x in constants.items()],
    )  # fmt: skip
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if threads > 1:  # its threads would wait in a loop, on the cores that others need
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    s = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = s.run(None, inputs)
    bound = s.io_binding()
    for name, x in inputs.items():
        bound.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
    bound.bind_ortvalue_output(nodes[-1].output[0], ort.OrtValue.ortvalue_from_numpy(y.copy()))
    return partial(s.run_with_iobinding, bound), y


def onnx_conv(x, w, threads, stride=1, pad=0, groups=1):
    from onnx import helper as h

    attributes = dict(strides=[stride] * 2, pads=[pad] * 4, group=groups)
    return session(
        [h.make_node("Conv", ["x", "w"], ["y"], **attributes)], {"x": x}, {"w": w}, threads
    )


def torch_or_none(threads):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    return torch


def numbers(*shape, scale=1.0):
    import numpy as np

    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) * np.float32(scale)


def close(got, wanted, error=2e-5):
    import numpy as np

    far = np.abs(got - wanted).max() / np.abs(wanted).max()
    assert far < error, f"results differ by {far:.1e}"


# ---- rows ------------------------------------------------------------------------------------------


def gemm(threads):
    from onnx import helper as h

    import tinyinfer as ti

    for n in 256, 512, 1024:
        a, b = numbers(n, n), numbers(n, n)
        node = h.make_node("MatMul", ["a", "b"], ["y"])
        for constant in False, True:
            given, kept = ({"a": a}, {"b": b}) if constant else ({"a": a, "b": b}, {})
            peer, wanted = session([node], given, kept, threads)
            by = partial(times, ti.State(b))
            run, (y,), chosen = ours(by, a) if constant else ours(ti.matmul, a, b)
            close(y, wanted)
            name = f"{n}³, {'weights' if constant else 'both given'}"
            yield Case("gemm", name, run, {"onnxruntime": peer}, 2.0 * n**3, chosen=chosen)


def times(w, x):
    return x @ w


def conv_case(row, name, threads, shape, filters, stride=1, pad=0, groups=1, torch_too=False):
    import tinyinfer as ti

    x, w = numbers(*shape), numbers(*filters, scale=0.05)
    peer, wanted = onnx_conv(x, w, threads, stride, pad, groups)
    weight = ti.State(w)
    conv = lambda x: ti.conv2d(x, weight, stride=stride, padding=pad, groups=groups)
    run, (y,), chosen = ours(conv, x)
    close(y, wanted)
    flops = 2.0 * y.size * w[0].size
    return Case(row, name, run, {"onnxruntime": peer}, flops, chosen=chosen)


def quantized(shape, filters, seed=0):
    """Bytes, weights, and what else an integer layer is given."""
    import numpy as np

    r = np.random.default_rng(seed)
    x = r.integers(0, 256, shape).astype(np.uint8)
    w = r.integers(-127, 128, filters).astype(np.int8)
    return x, w, r.uniform(0.005, 0.02, filters[0]).astype(np.float32)


def quantized_peer(node, x, w, scales, outputs, threads, **attributes):
    """onnxruntime on QLinearConv or QLinearMatMul."""
    import numpy as np
    from onnx import helper as h

    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"] + ["b"] * (node == "QLinearConv")
    kept = dict(
        xs=np.float32(0.02), xz=np.uint8(131), w=w, ws=scales, wz=np.zeros(outputs, np.int8),
        ys=np.float32(3.0), yz=np.uint8(120),
    )  # fmt: skip
    if node == "QLinearConv":
        kept["b"] = np.zeros(outputs, np.int32)
    return session([h.make_node(node, names, ["y"], **attributes)], {"x": x}, kept, threads)


def integer_case(row, name, threads, op, node, x, w, scales, flops, **attributes):
    import numpy as np

    import tinyinfer as ti
    from tinyinfer.ops.integer import output_scale

    o = len(scales)
    peer, wanted = quantized_peer(node, x, w, scales, o, threads, **attributes)
    kept = [ti.State(v) for v in (w, output_scale(0.02, scales, 3.0), np.zeros(o, np.int32))]
    run, (y,), chosen = ours(lambda x: op(x, *kept), x)
    assert (y == wanted).all(), "not the same bits"
    return Case(row, name, run, {"onnxruntime": peer}, flops, integer=True, chosen=chosen)


def gemm_int8(threads):
    """With weights, and the result on the grid of the next layer; beside our own product of floats."""
    import tinyinfer as ti
    from tinyinfer.ops.integer import QLinearMatMul

    for n in 256, 512, 1024:
        x, w, scales = quantized((n, n), (n, n))
        op = QLinearMatMul(131, 120)
        case = integer_case(
            "gemm_int8", f"{n}³", threads, op, "QLinearMatMul", x, w, scales, 2.0 * n**3
        )
        case.peers["float32"], _, _ = ours(partial(times, ti.State(numbers(n, n))), numbers(n, n))
        yield case


def conv3x3_int8(threads):
    from tinyinfer.ops.conv import Conv2d
    from tinyinfer.ops.integer import QLinearConv

    for n in 1, 8:
        for c, size in RESNET18:
            x, w, scales = quantized((n, c, size, size), (c, c, 3, 3))
            op = QLinearConv(Conv2d(padding=((1, 1), (1, 1))), 131, 120)
            flops = 2.0 * n * c * size * size * c * 9
            name = f"{n} x {c}@{size}²"
            yield integer_case("conv3x3_int8", name, threads, op, "QLinearConv", x, w, scales, flops,
                               pads=[1] * 4)  # fmt: skip


RESNET18 = (64, 56), (128, 28), (256, 14), (512, 7)


def conv3x3(threads):
    for n in 1, 8:
        for c, size in RESNET18:
            name = f"{n} x {c}@{size}²"
            yield conv_case("conv3x3", name, threads, (n, c, size, size), (c, c, 3, 3), pad=1)


OTHERS = [  # in, out, image, kernel, stride: ResNet-50's 1x1, and what is not 3x3 stride 1
    (64, 64, 56, 1, 1), (64, 256, 56, 1, 1), (256, 64, 56, 1, 1), (128, 512, 28, 1, 1), (512, 128, 28, 1, 1),
    (256, 1024, 14, 1, 1), (1024, 256, 14, 1, 1), (512, 2048, 7, 1, 1), (2048, 512, 7, 1, 1),
    (256, 512, 56, 1, 2), (512, 1024, 28, 1, 2), (1024, 2048, 14, 1, 2),
    (3, 64, 224, 7, 2), (64, 128, 56, 3, 2), (128, 256, 28, 3, 2), (256, 512, 14, 3, 2),
]  # fmt: skip


def conv_others(threads):
    for i, o, size, k, stride in OTHERS:
        name = f"{k}x{k}/{stride} {i}->{o}@{size}²"
        shapes = (1, i, size, size), (o, i, k, k)
        yield conv_case("conv_others", name, threads, *shapes, stride=stride, pad=k // 2)


MOBILENET = [  # channels, image, stride of MobileNet v2's depthwise convolutions
    (32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2), (384, 14, 1),
    (576, 14, 1), (576, 14, 2), (960, 7, 1),
]  # fmt: skip


def depthwise(threads):
    for c, size, stride in MOBILENET:
        name = f"3x3/{stride} {c}@{size}²"
        shapes = (1, c, size, size), (c, 1, 3, 3)
        yield conv_case("depthwise", name, threads, *shapes, stride=stride, pad=1, groups=c)


LENET = (1, 6, 32), (6, 16, 14)  # in, out, image


def lenet(threads):
    for n in 1, 64:
        for i, o, size in LENET:
            name = f"{n} x {i}->{o}@{size}²"
            yield conv_case("lenet", name, threads, (n, i, size, size), (o, i, 5, 5))


def gradient_cases(row, threads, n, i, o, size, k, pad, laid_out=False):
    """Both gradients; `laid_out`: of images that lie as the network keeps them."""
    import tinyinfer as ti
    from tinyinfer.ops.conv import Conv2d, Conv2dInput, Conv2dWeight
    from tinyinfer.ops.layout import In, pack

    conv = Conv2d(padding=((pad, pad), (pad, pad)))
    x, w = numbers(n, i, size, size), numbers(o, i, k, k, scale=0.05)
    g = numbers(n, o, size + 2 * pad - k + 1, size + 2 * pad - k + 1)
    by_input, by_weight = Conv2dInput(conv, x.shape), Conv2dWeight(conv, w.shape)
    lay = (lambda a: pack(a, "NCHW16n")) if laid_out else (lambda a: a)
    wrap = (lambda op: In(op, "NCHW16n", n)) if laid_out else (lambda op: op)
    flops, torch = 2.0 * g.size * w[0].size, torch_or_none(threads)
    weight = ti.State(w)
    name = f"{n} x {i}->{o}@{size}²"
    for which, fn, arrays, mask in (
        ("input", lambda g: wrap(by_input)(g, weight), (lay(g),), [True, False, False]),
        ("weight", lambda g, x: wrap(by_weight)(g, x), (lay(g), lay(x)), [False, True, False]),
    ):
        run, (y,), chosen = ours(fn, *arrays, layouts=[None] if laid_out else None)
        op, given = (by_input, (g, w)) if which == "input" else (by_weight, (g, x))
        close(y, lay(op.forward(*given)) if which == "input" else op.forward(*given))
        peers = {}
        if torch:
            t = torch.from_numpy
            back = torch.ops.aten.convolution_backward
            rest = [0], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, mask
            peers["PyTorch"] = partial(back, t(g), t(x), t(w), *rest)
        yield Case(row, f"{name}, by {which}", run, peers, flops, chosen=chosen)


def lenet_gradients(threads):
    for n in 1, 64:
        for i, o, size in LENET:
            yield from gradient_cases("lenet_gradients", threads, n, i, o, size, 5, 0)


def lenet_64(threads):
    """As in the network, where images stay sixteen side by side."""
    from tinyinfer.ops.layout import pack

    for i, o, size in LENET:
        x, w = numbers(64, i, size, size), numbers(o, i, 5, 5, scale=0.05)
        run, (y,), chosen = ours(in_lanes(w, 64), pack(x, "NCHW16n"), layouts=[None])
        flops = 2.0 * y.size * w[0].size
        yield Case("lenet_64", f"64 x {i}->{o}@{size}²", run, {}, flops, chosen=chosen)
        yield from gradient_cases("lenet_64", threads, 64, i, o, size, 5, 0, laid_out=True)


def in_lanes(w, n):
    import tinyinfer as ti
    from tinyinfer.ops.conv import Conv2d
    from tinyinfer.ops.layout import In

    weight = ti.State(w)
    return lambda x: In(Conv2d(), "NCHW16n", n)(x, weight)


def gradients(threads):
    for n in 16, 64:
        for c, size in (32, 32), (64, 16), (128, 8):
            yield from gradient_cases("gradients", threads, n, c, c, size, 3, 1, laid_out=True)


def elementwise(threads):
    """A chain of five steps on 4 M floats, fused; beside a copy of as many."""
    import numpy as np

    import tinyinfer as ti
    from tinyinfer.graph.passes import fuse

    x = numbers(4 << 20)
    chain = lambda x: (((x * 0.5 + 1.0).relu() * 2.0) - 0.25).clamp(-1.0, 3.0)
    with ti.no_grad():
        graph = fuse(ti.trace(chain, ti.tensor(x)))
    run, (y,), chosen = ours_of(graph, x)
    close(y, np.clip(np.maximum(x * 0.5 + 1, 0) * 2 - 0.25, -1, 3))
    to = np.empty_like(x)
    yield Case(
        "elementwise",
        "five steps, 4 M floats",
        run,
        {"copy": partial(np.copyto, to, x)},
        chosen=chosen,
    )


def indirection(threads):
    """Images in NHWC by an indirection buffer; beside im2col, as NumPy does it, and what both move."""
    import numpy as np

    import tinyinfer as ti
    from tinyinfer.core.spec import spec_of
    from tinyinfer.kernels import indirect
    from tinyinfer.kernels.kernel import numpy_kernel_of
    from tinyinfer.ops.conv import Conv2d
    from tinyinfer.ops.layout import In, pack

    for i, o, size, k in (64, 64, 56, 3), (128, 128, 28, 3), (256, 256, 14, 3), (64, 256, 56, 1):
        x, w = numbers(1, i, size, size), numbers(o, i, k, k, scale=0.05)
        conv = Conv2d(padding=((k // 2, k // 2),) * 2)
        wanted = conv.forward(x, w)
        kernel = numpy_kernel_of(conv, *map(spec_of, (wanted, x, w)))
        room = [np.empty(s.shape, s.dtype) for s in kernel.scratch]
        plain = partial(kernel.run, np.empty_like(wanted), x, w, *room)
        by = partial(applied, In(conv, "NHWC", i), ti.State(w))
        run, (y,), _ = ours(by, pack(x, "NHWC"), layouts=[None])
        close(y, pack(wanted, "NHWC"))
        moved = indirect.traffic(conv, x.shape, w.shape).items()
        told = ", ".join(f"{how} {(t.written + t.read) / 1e6:.1f} MB" for how, t in moved)
        flops = 2.0 * wanted.size * w[0].size
        name = f"{k}x{k} {i}->{o}@{size}²"
        yield Case("indirection", name, run, {"im2col": plain}, flops, chosen=told)


def applied(op, weight, x):
    return op(x, weight)


ROWS = {name: globals()[name] for name in BARS}


if __name__ == "__main__":
    main()
