"""LeNet-300-100, a network without convolutions from Y. LeCun, L. Bottou, Y. Bengio, P. Haffner,
Gradient-based learning applied to document recognition, Proc. IEEE, 1998, section III.C; with ReLU,
as in the papers on compression, such as S. Han, H. Mao, W. J. Dally, Deep Compression, ICLR 2016.

    layer       output       parameters
    image       1 x 28 x 28
    fc1, relu   300             235,500
    fc2, relu   100              30,100
    fc3         10                1,010
"""

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.train import Recipe

input_shape = 1, 28, 28
recipes = {
    "digits": Recipe(epochs=30, batch_size=32, lr=0.05, shift=1, rotate=10),
    "mnist": Recipe(epochs=10, batch_size=64, lr=0.1, weight_decay=5e-4, shift=1),
}


class LeNet300100(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(28 * 28, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, x):
        x = ti.relu(self.fc1(x.flatten(1)))
        x = ti.relu(self.fc2(x))
        return self.fc3(x)


def build():
    return LeNet300100()
