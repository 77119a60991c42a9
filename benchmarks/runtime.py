"""Planned runs against eager ones, the interpreter and PyTorch; and what a second thread brings to a
network of branches, beside what it brings to this machine's arithmetic.

python benchmarks/runtime.py
"""

from pathlib import Path

from compare import OURS, arguments, compare, interleaved, use_threads

MODELS = Path(__file__).parents[1] / "models"
IMAGES = 1, 8, 32  # through the Inception-style network
CALLS = 20  # in a row: so what is small stays in the caches, as it would in use


def main():
    options = arguments(__doc__, rounds=20)
    use_threads(options.threads)
    import tinyinfer as ti

    with ti.no_grad():
        networks(ti, options)
    training(ti, options)
    with ti.no_grad():
        branches(ti, options)


def build(name):
    from tinyinfer import train

    file = train.modelfile.load(MODELS / f"{name}.py")
    return file.build().eval(), file.input_shape


def networks(ti, options):
    """Inference: by the eager model, by the interpreter of the same graph, and by PyTorch."""
    import torch

    torch.set_num_threads(options.threads)
    cases = {}
    for name, batch in ("lenet", 1), ("lenet", 64), ("mlp", 1), ("mlp", 64):
        model, shape = build(name)
        x = ti.randn(batch, *shape)
        theirs, their_x = torch_of(name, torch), torch.randn(batch, *shape)
        cases[f"{name}, {batch}"] = {
            OURS: again(bound(ti.compile(model), x)),
            "eager": again(bound(model, x)),
            "interpreted": again(bound(ti.compile(model, "interpreted"), x)),
            "PyTorch": no_grad(torch, again(bound(theirs, their_x))),
        }
    compare("Inference, planned", cases, per=CALLS, rounds=options.rounds)


def torch_of(name, torch):
    nn = torch.nn
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    pooled = lambda i, o: (nn.Conv2d(i, o, 5), nn.ReLU(), nn.MaxPool2d(2))
    rest = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
    return nn.Sequential(*pooled(1, 6), *pooled(6, 16), nn.Flatten(), *rest)


def bound(f, *xs):
    return lambda: f(*xs)


def again(run):
    return lambda: [run() for _ in range(CALLS)]


def no_grad(torch, run):
    return torch.no_grad()(run)


def training(ti, options, batch=64):
    """A step of LeNet by SGD with momentum."""
    import numpy as np
    import torch

    from tinyinfer import optim

    x = np.random.default_rng(0).standard_normal((batch, 1, 32, 32), np.float32)
    labels = np.arange(batch) % 10

    def ours(wrap):
        model, _ = build("lenet")
        optimizer = optim.SGD(model.parameters(), 0.01, 0.9)

        def step(x, labels):
            optimizer.zero_grad()
            loss = ti.cross_entropy(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss

        return bound(wrap(step), ti.tensor(x), ti.tensor(labels))

    def theirs():
        model = torch_of("lenet", torch)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
        xs, ls = torch.from_numpy(x), torch.from_numpy(labels)

        def step():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(xs), ls).backward()
            optimizer.step()

        return step

    ways = {OURS: ours(ti.compile), "eager": ours(lambda f: f), "PyTorch": theirs()}
    compare("A training step of LeNet, planned", {f"lenet, {batch}": ways}, rounds=options.rounds)


def branches(ti, options):
    """The same plan by one thread and by two."""
    from tinyinfer.runtime.machine import measured

    machine = measured()
    model, shape = build("inception")
    print(f"two threads on this machine: arithmetic {machine.scaling.peak:.2f} times one,", end=" ")
    print(f"memory {machine.scaling.bandwidth:.2f} times")
    for batch in IMAGES:
        x = ti.randn(batch, *shape)
        ways = {
            "serial": bound(ti.compile(model), x),
            "serial, by breadth": bound(ti.compile(model, order="breadth"), x),
            "two threads": bound(ti.compile(model, threads=2), x),
        }
        found = interleaved(ways, options.rounds)
        told = ", ".join(f"{way} {seconds * 1e3:.1f} ms" for way, seconds in found.items())
        print(f"Inception-style, {batch} images: {told}: ", end="")
        print(f"{found['serial'] / found['two threads']:.2f} times as fast on two threads")


if __name__ == "__main__":
    main()
