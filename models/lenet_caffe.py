"""LeNet as Caffe's example has it (lenet.prototxt): the network of the papers on compression, such as
S. Han, H. Mao, W. J. Dally, Deep Compression, ICLR 2016. Its convolutions have no activation.

    layer           output       parameters
    image           1 x 28 x 28
    conv1           20 x 24 x 24        520
    pool            20 x 12 x 12
    conv2           50 x 8 x 8       25,050
    pool            50 x 4 x 4
    fc1, relu       500             400,500
    fc2             10                5,010
"""

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.train import Recipe

input_shape = 1, 28, 28
recipes = {
    "digits": Recipe(epochs=15, batch_size=32, lr=0.02, shift=3, rotate=10),
    "mnist": Recipe(epochs=6, batch_size=64, lr=0.02, weight_decay=5e-4, shift=1),
}


class LeNetCaffe(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x):
        x = ti.max_pool2d(self.conv1(x), 2)
        x = ti.max_pool2d(self.conv2(x), 2)
        x = ti.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def build():
    return LeNetCaffe()
