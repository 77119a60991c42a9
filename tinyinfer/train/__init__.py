"""Training: a recipe, a model file, a loop that can be broken off and goes on bit for bit.

model_file = train.modelfile.load("models/lenet.py")
run = train.Run(model_file.build(), Recipe(epochs=10), *data.digits(), model_file.input_shape)
train.fit(run, "runs/mine")
"""

# ruff: noqa: F401
from . import checkpoint, folder, inputs, modelfile, weights
from .checkpoint import Checkpoint
from .fit import Interrupted, fit
from .folder import Folder
from .loop import Run, Scores, evaluate, step_of
from .recipe import Recipe
