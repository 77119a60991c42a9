"""A small U-Net, from O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical
image segmentation, MICCAI 2015, arXiv 1505.04597; a quarter as wide, and padded, so that the map of
classes is as large as the image. What the way down has seen is kept until the way up needs it.

    layer                     output          parameters
    image                     1 x 64 x 64
    down 1                    16 x 64 x 64         2,480
    pool, down 2              32 x 32 x 32        13,888
    pool, down 3              64 x 16 x 16        55,424
    pool, bottom              128 x 8 x 8        221,440
    up 3, beside down 3       64 x 16 x 16       143,552
    up 2, beside down 2       32 x 32 x 32        35,936
    up 1, beside down 1       16 x 64 x 64         9,008
    head, 1 x 1               2 x 64 x 64             34

Each level is two convolutions of 3 x 3 with ReLU. On the way up a transposed convolution of 2 x 2
doubles the image and halves its channels; what the way down had there is put beside it.
"""

import tinyinfer as ti
from tinyinfer import nn

input_shape = 1, 64, 64
recipes = {}


def level(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
    )


class Up(nn.Module):
    def __init__(self, n):
        self.grow = nn.ConvTranspose2d(2 * n, n, 2, stride=2)
        self.level = level(2 * n, n)

    def forward(self, x, beside):
        return self.level(ti.concat([beside, self.grow(x)], 1))


class UNet(nn.Module):
    def __init__(self):
        self.down1, self.down2, self.down3 = level(1, 16), level(16, 32), level(32, 64)
        self.bottom = level(64, 128)
        self.up3, self.up2, self.up1 = Up(64), Up(32), Up(16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(ti.max_pool2d(a, 2))
        c = self.down3(ti.max_pool2d(b, 2))
        x = self.bottom(ti.max_pool2d(c, 2))
        return self.head(self.up1(self.up2(self.up3(x, c), b), a))


def build():
    return UNet()
