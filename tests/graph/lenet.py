import numpy as np

import tinyinfer as ti
from tinyinfer import nn, optim


def lenet(side=28):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(16 * ((side // 2 - 4) // 2) ** 2, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def batches(n, size=16, side=28):
    rng = np.random.RandomState(7)
    return [
        (rng.randn(size, 1, side, side).astype(np.float32), rng.randint(0, 10, size))
        for _ in range(n)
    ]


def make():
    ti.manual_seed(3)
    model = lenet()
    opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(x, labels):
        opt.zero_grad()
        loss = ti.cross_entropy(model(x), labels)
        loss.backward()
        opt.step()
        return loss

    return model, opt, step
