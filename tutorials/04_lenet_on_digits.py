# %% [markdown]
# # 4. LeNet on digits
#
# Everything so far comes together: a network, real data, a training loop written out, and a look
# at what it learned and where it is wrong. At the end, the same with one command.
#
# LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) read handwritten cheques. It is small enough to
# be looked at as a whole, and has what every convolutional network has.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import SVG, Code, Image, Markdown

import tinyinfer as ti
from tinyinfer import data, optim
from tinyinfer.data.transforms import Compose, Fit, Normalize, RandomRotation, RandomShift
from tinyinfer.draw import charts
from tinyinfer.train import modelfile

# %% [markdown]
# ## Look at the data first
#
# The package holds real digits, written by many people on paper forms (E. Alpaydin and C. Kaynak,
# UCI Machine Learning Repository, CC BY 4.0). They are split once and for all: every fifth is for
# the test.

# %%
train, test = data.digits()
print(f"{len(train):,} to learn from, {len(test):,} to test, each {train.images.shape[1:]}")
print("shades:  ", train.images.min(), "to", train.peak)
print("of each digit:", np.bincount(train.labels))


# %%
def tiles(images, titles, columns=12, inches=0.8, **options):
    rows = -(-len(images) // columns)
    size = inches * columns, (inches + 0.2) * rows
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, title in zip(grid.flat, images, titles):
        axes.imshow(image, **{"cmap": "gray_r"} | options)
        axes.set_title(title, fontsize=9, pad=2)
    plt.show()


tiles(train.images[:36, 0], train.labels[:36])

# %% [markdown]
# Eight by eight pixels. Could *you* tell the label of each? It is worth trying before judging a
# network.
#
# LeNet wants 32 by 32. `Fit` makes each pixel a square. For training, every image is turned and
# shifted a little, by another amount each time it is seen. That keeps the network from learning
# single images by heart.

# %%
pixels = train.batch(range(len(train)))[0]
scale = Normalize(float(pixels.mean()), float(pixels.std()))
as_it_is = Compose(Fit(32, 32), scale)
moved = Compose(Fit(32, 32), RandomRotation(10), RandomShift(2), scale)

one = pixels[:1]
rng = np.random.default_rng(0)
again = [moved(one, rng)[0, 0] for _ in range(5)]
tiles(
    [one[0, 0], as_it_is(one)[0, 0], *again],
    ["8 x 8", "32 x 32", *["moved"] * 5],
    columns=7,
    inches=1.3,
)

# %% [markdown]
# ## The model file
#
# A network is one file: how it is built, what it takes, and how to train it. This is all of it.

# %%
path = Path("../../models/lenet.py")
Code(path.read_text(encoding="utf-8"), language="python")

# %% [markdown]
# There is no registration of layers. A module finds its parameters by looking at its attributes.
# `summary` traces the model once and lists what each layer makes and costs (a MAC is one
# multiplication and addition):

# %%
lenet = modelfile.load(path)
ti.manual_seed(0)
model = lenet.build()
summary = model.summary((1, *lenet.input_shape))
print(summary)

# %% [markdown]
# Most parameters sit in `fc1`, but most of the work is done in the convolutions: each of their
# few weights is used at every place of the image.

# %%
assert max(summary.rows, key=lambda row: row.parameters).name == "fc1"
assert sum(row.macs for row in summary.rows if row.type == "Conv2d") > summary.macs / 2

# %% [markdown]
# A placeholder goes through the model as a tensor would; what comes out has no value, but it can
# be drawn.

# %%
picture = model(ti.placeholder((1, *lenet.input_shape), name="image")).draw("lenet.svg")
if picture.suffix == ".svg":
    shown = SVG(filename=str(picture))
else:
    shown = Markdown(
        "**No picture here:** Graphviz's `dot` is missing. Get it with `apt install graphviz` or "
        f"`brew install graphviz`. What it would draw is in `{picture}`."
    )
shown

# %% [markdown]
# ## Before training
#
# What should the loss be, before anything is learned? A network that knows nothing gives each of
# ten digits the probability 1/10, and the loss is $-\log \frac{1}{10}$. If yours begins
# elsewhere, something is wrong already.

# %%
batches = data.DataLoader(train, 32, shuffle=True, seed=0, transform=moved)
testing = data.DataLoader(test, len(test), transform=as_it_is)
[(test_images, test_labels)] = testing

with ti.no_grad():
    first = ti.cross_entropy(model(test_images), test_labels).item()
print(f"loss {first:.3f}, expected {np.log(10):.3f}")
assert abs(first - np.log(10)) < 0.1

before = model.state_dict()  # a snapshot, for later

# %% [markdown]
# ## The loop
#
# This is what training is. Forget the old gradients, compute a loss, walk back, take a step; and
# do so for every batch, many times over. The learning rate climbs and falls along a schedule.

# %%
EPOCHS = 12
optimizer = optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
schedule = optim.OneCycleLR(optimizer, max_lr=0.03, total_steps=EPOCHS * len(batches))
rows = []
for epoch in range(1, EPOCHS + 1):
    total = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        loss = ti.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() / len(batches)
    with ti.no_grad():
        logits = model(test_images)
        test_loss = ti.cross_entropy(logits, test_labels).item()
    right = (logits.argmax(1) == test_labels).numpy().mean()
    rows.append(
        {"epoch": epoch, "train_loss": total, "test_loss": test_loss, "test_accuracy": right}
    )
    print(f"epoch {epoch:2}: loss {total:.3f}, on the test {test_loss:.3f}, right {right:.1%}")

# %% [markdown]
# Why `zero_grad`? Because `backward` adds to what is there. Why `no_grad` around the test? Nobody
# will walk back from there, so nothing has to be remembered.
#
# The test images are never learned from. They tell how the network does on digits that it has not
# seen.

# %%
assert rows[-1]["test_accuracy"] >= 0.95
assert sum(row["train_loss"] > row["test_loss"] for row in rows) > EPOCHS / 2
Image(filename=charts.curves(rows, "lenet_curves.png", "LeNet-5 on digits"), width=760)

# %% [markdown]
# For most epochs the training loss lies above the test loss. Is that not the wrong way round? The
# training images are the harder ones, since they are moved; and their loss is a mean over the
# epoch, in which the network was still getting better.
#
# ## Where is it wrong?
#
# A number like "right" hides what goes wrong. The confusion matrix counts, for each true digit
# (row), what it was taken for (column).

# %%
probabilities = logits.softmax(1).numpy()
predicted, sure = probabilities.argmax(1), probabilities.max(1)
truth = test_labels.numpy()

confusion = np.zeros((10, 10), int)
np.add.at(confusion, (truth, predicted), 1)

figure, axes = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
wrong = confusion * (1 - np.eye(10, dtype=int))
axes.imshow(wrong, cmap="Oranges", vmax=2 * wrong.max() + 1)
for (i, j), n in np.ndenumerate(confusion):
    if n:
        axes.text(j, i, n, ha="center", va="center", color="0.6" if i == j else "black")
axes.set(xticks=range(10), yticks=range(10), xlabel="taken for", ylabel="is")
plt.show()

print(f"{wrong.sum()} of {len(truth)} are wrong")
assert confusion.trace() == round(rows[-1]["test_accuracy"] * len(truth))

# %% [markdown]
# Here they are, the surest first. Some are hard for anybody, and some are not.

# %%
mistakes = charts.mistakes(
    test.images, truth, predicted, sure, "lenet_mistakes.png", test.classes, "LeNet-5 on digits"
)
Image(filename=mistakes, width=760)

# %% [markdown]
# A good network is also unsure where it is wrong. How sure was it, on the ones it got right and
# on the others?

# %%
for name, chosen in ("right", predicted == truth), ("wrong", predicted != truth):
    if chosen.any():
        print(f"{name}: sure to {sure[chosen].mean():.0%} on average")


# %% [markdown]
# ## What the first layer looks for
#
# Its weights are six images of 5 by 5. Red is positive: the filter wants ink there. Blue is
# negative. Above as they began, drawn by chance; below as they became.

# %%
after = model.state_dict()["conv1.weight"].numpy()[:, 0]
began = before["conv1.weight"].numpy()[:, 0]
most = float(np.abs([began, after]).max())
names = [f"filter {i}" for i in range(6)]
tiles([*began, *after], names + names, columns=6, inches=1.2, cmap="RdBu_r", vmin=-most, vmax=most)

# %% [markdown]
# What does it make of a digit? A *hook* is called after a module has run, and can look at what
# came out.

# %%
seen = {}


def look(module, inputs, output):
    seen[module] = output


hook = model.conv1.register_forward_hook(look)
with ti.no_grad():
    model(test_images[:1])
hook.remove()

maps = ti.relu(seen[model.conv1]).numpy()[0]
tiles([test_images.numpy()[0, 0], *maps], [f"a {truth[0]}", *names], columns=7, inches=1.3)

# %% [markdown]
# Dark is where a filter answers: one to edges of a certain direction, another to places without
# ink, and each does so wherever in the image they are. The layers above put these answers
# together.
#
# ## Which pixels speak for it?
#
# The tape knows how the loss depends on the weights, and just as well how it depends on the
# *image*. For the surest mistakes, take the gradient of the wrong answer's lead over the right
# one. Each pixel of the original was made a square of 4 by 4, so its gradient is the sum over the
# square.
#
# Red: more ink here would make the mistake surer. Blue: ink here speaks for the truth.

# %%
worst = [i for i in np.argsort(-sure) if predicted[i] != truth[i]][:4]
slopes = []
for i in worst:
    image = ti.tensor(test_images[int(i)].numpy()[None], requires_grad=True)
    answers = model(image)[0]
    lead = answers[int(predicted[i])] - answers[int(truth[i])]
    slope = ti.grad(lead, image).reshape(8, 4, 8, 4).sum((1, 3)).numpy()
    slopes.append(slope / np.abs(slope).max())
columns = max(2, len(worst))
said = [f"{truth[i]}, taken for {predicted[i]}" for i in worst]
tiles(test.images[worst, 0], said, columns, inches=1.5)
tiles(slopes, [""] * 4, columns, inches=1.5, cmap="RdBu_r", vmin=-1, vmax=1)

# %% [markdown]
# ## The same with one command
#
# The loop above is also in the package, with what a long run needs: it can be broken off with
# Ctrl-C and resumed, it notices a loss that is no longer a number, and it writes down what it
# did.
#
# ```
# tinyinfer train models/lenet.py
# ```
#
# Here it is, for a few epochs only:

# %%
tinyinfer = Path(sys.executable).with_name("tinyinfer")
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder, "lenet-digits")
    command = [tinyinfer, "train", path, "--epochs", "4", "--out", out]
    plain = os.environ | {"FORCE_COLOR": "", "COLUMNS": "100"}  # a notebook is no terminal
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    print(done.stdout)
    for file in sorted(out.iterdir()):
        print(f"{file.name:24} {file.stat().st_size:>9,} bytes")

# %% [markdown]
# How many epochs, which optimizer and learning rate, how much the images move: that is the
# *recipe*, and it stands in the model file. It is not quite ours; there is more than one way to
# train a LeNet.

# %%
lenet.recipe("digits")

# %% [markdown]
# ## To try
#
# 1. Use `as_it_is` for training too. What happens to the two losses, and to the mistakes?
# 2. Leave out `optimizer.zero_grad()`. Can you tell from the loss what happens?
# 3. Replace `ti.relu` in the model by the `Swish` of the tutorial before. What does each layer
#    learn for its $\beta$?
# 4. Open `train/loop.py`. Which line of our loop is where?
