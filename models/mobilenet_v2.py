"""MobileNet v2, from M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen, MobileNetV2: inverted
residuals and linear bottlenecks, CVPR 2018, arXiv 1801.04381, table 2; width 1.0.

    layer                      output             parameters
    image                      3 x 224 x 224
    stem, 3 x 3, stride 2      32 x 112 x 112            928
    block 1                    16 x 112 x 112            896
    blocks 2-3, stride 2       24 x 56 x 56           13,968
    blocks 4-6, stride 2       32 x 28 x 28           39,696
    blocks 7-10, stride 2      64 x 14 x 14          183,872
    blocks 11-13               96 x 14 x 14          303,168
    blocks 14-16, stride 2     160 x 7 x 7           795,264
    block 17                   320 x 7 x 7           473,920
    head, 1 x 1                1280 x 7 x 7          412,160
    mean                       1280
    fc                         1000                1,281,000

A block makes six times as many channels (the first one, as many), looks at the neighbours in each,
and makes few of them again: without an activation, which would lose what few channels hold. What
comes in is added, if it has the shape of what goes out. After every other convolution there is ReLU6,
min(max(x, 0), 6), and after all BatchNorm. An image takes 301 million multiplications.
"""

import tinyinfer as ti
from tinyinfer import nn

input_shape = 3, 224, 224
recipes = {}
STAGES = [  # widening, channels, blocks, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


class ReLU6(nn.Module):
    def forward(self, x):
        return ti.clip(x, 0, 6)


def linear(inputs, outputs, size=1, stride=1, groups=1):
    """A convolution without an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def conv(*sizes, **options):
    return nn.Sequential(linear(*sizes, **options), ReLU6())


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, widening):
        inner = widening * inputs
        self.expand = conv(inputs, inner) if widening > 1 else nn.Identity()
        self.depthwise = conv(inner, inner, 3, stride, groups=inner)
        self.project = linear(inner, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def blocks(inputs):
    for widening, outputs, count, stride in STAGES:
        for i in range(count):
            yield Block(inputs, outputs, 1 if i else stride, widening)
            inputs = outputs


class MobileNetV2(nn.Module):
    def __init__(self):
        self.stem = conv(3, 32, 3, stride=2)
        self.blocks = nn.Sequential(*blocks(32))
        self.head = conv(320, 1280)
        self.fc = nn.Linear(1280, 1000)

    def forward(self, x):
        x = self.head(self.blocks(self.stem(x)))
        return self.fc(x.mean((2, 3)))


def build():
    return MobileNetV2()
