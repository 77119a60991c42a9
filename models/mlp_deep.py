"""A network with two hidden layers, 784-512-256-10.

layer       output       parameters
image       1 x 28 x 28
fc1, relu   512             401,920
fc2, relu   256             131,328
fc3         10                2,570
"""

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.train import Recipe

input_shape = 1, 28, 28
recipes = {
    "digits": Recipe(epochs=30, batch_size=32, lr=0.05, shift=1, rotate=10),
    "mnist": Recipe(epochs=10, batch_size=64, lr=0.05, weight_decay=5e-4, shift=1),
}


class DeepMLP(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(28 * 28, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, 10)

    def forward(self, x):
        x = ti.relu(self.fc1(x.flatten(1)))
        x = ti.relu(self.fc2(x))
        return self.fc3(x)


def build():
    return DeepMLP()
