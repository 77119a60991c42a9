"""A small network of Inception modules, from C. Szegedy et al., Going deeper with convolutions, CVPR
2015, arXiv 1409.4842, figure 2b, with BatchNorm as in S. Ioffe, C. Szegedy, ICML 2015. Four branches
look at the same image, each in its own way, so there is work that can be done at the same time.

    layer            output          parameters
    image            3 x 32 x 32
    stem, 3 x 3      64 x 32 x 32         1,856
    module 1         128 x 32 x 32       30,432
    pool, module 2   256 x 16 x 16      121,024
    module 3         256 x 16 x 16      147,648
    pool, module 4   512 x 8 x 8        482,688
    mean             512
    fc               10                   5,130

The channels of a module, which gives n of them (BatchNorm and ReLU after every convolution):

    1 x 1                    n / 4
    1 x 1, then 3 x 3        n / 4, 3 n / 8
    1 x 1, then 5 x 5        n / 8, 3 n / 16
    pool of 3 x 3, 1 x 1     3 n / 16
"""

import tinyinfer as ti
from tinyinfer import nn

input_shape = 3, 32, 32
recipes = {}


def conv(inputs, outputs, size):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Inception(nn.Module):
    def __init__(self, inputs, n):
        self.one = conv(inputs, n // 4, 1)
        self.three = nn.Sequential(conv(inputs, n // 4, 1), conv(n // 4, n * 3 // 8, 3))
        self.five = nn.Sequential(conv(inputs, n // 8, 1), conv(n // 8, n * 3 // 16, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, n * 3 // 16, 1))

    def forward(self, x):
        return ti.concat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class SmallInception(nn.Module):
    def __init__(self):
        self.stem = conv(3, 64, 3)
        self.blocks = nn.Sequential(
            Inception(64, 128),
            nn.MaxPool2d(2),
            Inception(128, 256),
            Inception(256, 256),
            nn.MaxPool2d(2),
            Inception(256, 512),
        )
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(x.mean((2, 3)))


def build():
    return SmallInception()
