"""LeNet-5, from Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to
document recognition, Proc. IEEE, 1998, section II.B; with ReLU, max pooling and a full second
convolution, as it is built today.

    layer           output       parameters
    image           1 x 32 x 32
    conv1, relu     6 x 28 x 28         156
    pool            6 x 14 x 14
    conv2, relu     16 x 10 x 10      2,416
    pool            16 x 5 x 5
    fc1, relu       120              48,120
    fc2, relu       84               10,164
    fc3             10                  850
"""

import tinyinfer as ti
from tinyinfer import nn
from tinyinfer.train import Recipe

input_shape = 1, 32, 32
recipes = {
    "digits": Recipe(
        epochs=20,
        batch_size=32,
        lr=0.003,
        optimizer="adam",
        label_smoothing=0.1,
        shift=3,
        rotate=10,
    ),
    "mnist": Recipe(epochs=10, batch_size=64, lr=0.05, weight_decay=5e-4, shift=1),
}


class LeNet5(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = ti.max_pool2d(ti.relu(self.conv1(x)), 2)
        x = ti.max_pool2d(ti.relu(self.conv2(x)), 2)
        x = ti.relu(self.fc1(x.flatten(1)))
        x = ti.relu(self.fc2(x))
        return self.fc3(x)


def build():
    return LeNet5()
