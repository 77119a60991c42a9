"""One SGD step of LeNet-5 on 64 images of 1 x 32 x 32, eager, against PyTorch.

python benchmarks/training_step.py
"""

from compare import OURS, arguments, compare, use_threads

BATCH = 64


def layers(nn):
    """The same text makes the model in both libraries."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def main():
    options = arguments(__doc__)
    use_threads(options.threads)
    import numpy as np
    import torch

    import tinyinfer as ti

    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, 1, 32, 32), np.float32)
    labels = rng.integers(0, 10, BATCH)

    def training(lib, cross_entropy):
        model = layers(lib.nn)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        x, y = lib.tensor(images), lib.tensor(labels)

        def step():
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()

        return step

    rivals = {
        OURS: training(ti, ti.cross_entropy),
        "PyTorch": training(torch, torch.nn.functional.cross_entropy),
    }
    title = f"LeNet-5, one SGD step on {BATCH} images, {options.threads} thread(s)"
    compare(title, {"eager": rivals}, unit=1e-3, unit_name="ms", rounds=options.rounds)


if __name__ == "__main__":
    main()
