"""How tracing, the passes and planning grow with the graph: training steps of deep networks, their forward and
backward steps and updates, from 1,000 to 20,000 nodes. Medians; the last column says what each of
20,000 nodes costs, as a multiple of what each of 1,000 costs: 1 is linear.

python benchmarks/graphs.py
"""

import gc
import statistics
import time

from compare import arguments, use_threads
from rich.console import Console
from rich.table import Table

SIZES = 1_000, 2_000, 5_000, 10_000, 20_000
WIDTH, BATCH = 8, 4


def deep_network(blocks):
    """A training step through residual blocks of several kinds, all small: only their number counts."""
    import numpy as np

    import tinyinfer as ti
    from tinyinfer import nn, optim

    make = [
        lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)),
        lambda: nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.GELU()),
    ]
    ti.manual_seed(0)
    layers = [make[i % len(make)]() for i in range(blocks)]
    optimizer = optim.SGD([p for m in layers for p in m.parameters()], 0.01, 0.9)

    def step(x, labels):
        optimizer.zero_grad()
        for i, layer in enumerate(layers):
            x = x + layer(x)
            if i % 5 == 0:  # attention among the examples of the batch
                x = ti.softmax(x @ x.T * (1 / WIDTH**0.5)) @ x / 2
        loss = ti.cross_entropy(x, labels)
        loss.backward()
        optimizer.step()
        return loss

    labels = ti.tensor(np.arange(BATCH))
    return lambda: ti.trace(step, ti.ones(BATCH, WIDTH), labels)


def timed(run):
    gc.collect()
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def measured(trace, optimize, plan, rounds):
    """The number of nodes, and {what: median seconds} of the trace, the plan of the graph as it is,
    the pipeline, and each pass."""
    found = {}
    for _ in range(rounds):
        seconds, graph = timed(trace)
        found.setdefault("trace", []).append(seconds)
        seconds, _ = timed(lambda graph=graph: plan(graph))
        found.setdefault("plan", []).append(seconds)
        seconds, after = timed(lambda graph=graph: optimize(graph))
        found.setdefault("all passes", []).append(seconds)
        for i, change in enumerate(after.history):
            found.setdefault(f"{i + 1:2} {change.name}", []).append(change.seconds)
    return len(graph.nodes), {what: statistics.median(times) for what, times in found.items()}


def main():
    options = arguments(__doc__, rounds=3)
    use_threads(options.threads)
    import tinyinfer as ti

    per_block = len(deep_network(60)().nodes) / 60
    columns = [
        measured(deep_network(round(size / per_block)), ti.optimize, ti.plan, options.rounds)
        for size in SIZES
    ]
    table = Table("", *(f"{n:,}" for n, _ in columns), "growth", title="µs a node, of nodes")
    for column in table.columns[1:]:
        column.justify = "right"
    for what in columns[0][1]:
        each = [found[what] / n * 1e6 for n, found in columns]
        table.add_row(what, *(f"{us:.1f}" for us in each), f"{each[-1] / each[0]:.2f}")
    for n, found in columns[0], columns[SIZES.index(10_000)]:
        told = ", ".join(f"{what} {found[what]:.3f} s" for what in ("trace", "all passes", "plan"))
        print(f"{n:,} nodes: {told}")
    Console().print(table)


if __name__ == "__main__":
    main()
