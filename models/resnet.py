"""ResNet-20, from K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, CVPR
2016, arXiv 1512.03385, section 4.2, for the small images of CIFAR-10; where a stage begins, a
convolution of 1 x 1 brings what is added to its shape (option B of the paper).

    layer                  output         parameters
    image                  3 x 32 x 32
    stem, 3 x 3            16 x 32 x 32          464
    blocks 1-3             16 x 32 x 32       14,016
    blocks 4-6, stride 2   32 x 16 x 16       51,648
    blocks 7-9, stride 2   64 x 8 x 8        205,696
    mean                   64
    fc                     10                    650

A block is two convolutions of 3 x 3, and adds to them what it was given. After every convolution
there is BatchNorm, and ReLU after it or after the sum.
"""

import tinyinfer as ti
from tinyinfer import nn

input_shape = 3, 32, 32
recipes = {}


def conv(inputs, outputs, size, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.conv2 = conv(outputs, outputs, 3)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x):
        y = self.conv2(ti.relu(self.conv1(x)))
        return ti.relu(y + self.shortcut(x))


def stage(inputs, outputs, stride):
    more = [Block(outputs, outputs, 1) for _ in range(2)]
    return nn.Sequential(Block(inputs, outputs, stride), *more)


class ResNet20(nn.Module):
    def __init__(self):
        self.stem = conv(3, 16, 3)
        self.stages = nn.Sequential(stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.stages(ti.relu(self.stem(x)))
        return self.fc(x.mean((2, 3)))


def build():
    return ResNet20()
