"""A run that is over in a moment, and has in it whatever could come back wrong: dropout, running
statistics, moments, a schedule, images that move, and a last batch that is smaller."""

import tinyinfer as ti
from tinyinfer import data, nn
from tinyinfer.train import Recipe, Run

INPUT_SHAPE = 1, 8, 8
RECIPE = Recipe(epochs=3, batch_size=32, lr=0.01, optimizer="adam", shift=1, rotate=5, clip_norm=5)


class Small(nn.Module):
    def __init__(self):
        self.fc1 = nn.Linear(64, 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.2)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc2(self.dropout(ti.relu(self.norm(self.fc1(x.flatten(1))))))


def halves():
    train, test = data.digits()
    return train.subset(range(100)), test.subset(range(50))


def run(recipe=RECIPE, model=Small, seed=0, **options):
    ti.manual_seed(seed)
    return Run(model(), recipe, *halves(), INPUT_SHAPE, seed, **options)
