"""What an operation costs beside its arithmetic: tiny tensors, eager, against PyTorch.

python benchmarks/overhead.py
"""

from compare import OURS, arguments, compare, use_threads

CHAIN = 1000


def main():
    options = arguments(__doc__)
    use_threads(options.threads)
    import numpy as np
    import torch

    import tinyinfer as ti

    torch.set_num_threads(options.threads)
    one = np.ones(10, np.float32)
    ours, theirs = ti.tensor(one, requires_grad=True), torch.tensor(one, requires_grad=True)
    our_one, their_one = ti.tensor(one), torch.tensor(one)

    def chain(x, step):
        for _ in range(CHAIN):
            x = step(x)
        return x

    def rivals(step_of, way):
        return {
            OURS: lambda: way(ours, step_of(our_one, ti)),
            "PyTorch": lambda: way(theirs, step_of(their_one, torch)),
        }

    def forward(x, step):
        chain(x, step)

    def both_ways(x, step):
        chain(x, step).sum().backward()

    cases = {}
    for name, step in {
        "add": lambda one, lib: lambda x: x + one,
        "mul": lambda one, lib: lambda x: x * one,
        "relu": lambda one, lib: lib.relu,
        "tanh": lambda one, lib: lib.tanh,
    }.items():
        cases[f"{name}, recorded"] = rivals(step, forward)
        cases[f"{name}, forward + backward"] = rivals(step, both_ways)
    title = f"One operation on 10 floats, of a chain of {CHAIN}"
    compare(title, cases, per=CHAIN, rounds=options.rounds)


if __name__ == "__main__":
    main()
