"""MobileNet v1, from A. G. Howard et al., MobileNets: efficient convolutional neural networks for
mobile vision applications, 2017, arXiv 1704.04861, table 1; width 1.0. A depthwise convolution looks
at the neighbours, a pointwise one at the channels: together an eighth of the work of a full one.

    layer                          output             parameters
    image                          3 x 224 x 224
    stem, 3 x 3, stride 2          32 x 112 x 112            928
    block 1                        64 x 112 x 112          2,528
    block 2, stride 2, and 3       128 x 56 x 56          28,096
    block 4, stride 2, and 5       256 x 28 x 28         103,296
    block 6, stride 2, and 7-11    512 x 14 x 14       1,484,032
    block 12, stride 2, and 13     1024 x 7 x 7        1,588,096
    mean                           1024
    fc                             1000                1,025,000

A block is a depthwise convolution of 3 x 3, which takes the stride, and a pointwise one. After every
convolution there are BatchNorm and ReLU. An image takes 569 million multiplications.
"""

from tinyinfer import nn

input_shape = 3, 224, 224
recipes = {}
BLOCKS = [  # channels in, out, stride
    (32, 64, 1),
    (64, 128, 2), (128, 128, 1),
    (128, 256, 2), (256, 256, 1),
    (256, 512, 2), *[(512, 512, 1)] * 5,
    (512, 1024, 2), (1024, 1024, 1),
]  # fmt: skip


def conv(inputs, outputs, size, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def block(inputs, outputs, stride):
    depthwise = conv(inputs, inputs, 3, stride, groups=inputs)
    return nn.Sequential(depthwise, conv(inputs, outputs, 1))


class MobileNetV1(nn.Module):
    def __init__(self):
        self.stem = conv(3, 32, 3, stride=2)
        self.blocks = nn.Sequential(*[block(*sizes) for sizes in BLOCKS])
        self.fc = nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(x.mean((2, 3)))


def build():
    return MobileNetV1()
