"""The networks in models/ on MNIST: mean and spread of the test accuracy over several seeds.

Same network, same data, no image of the test set seen in training; the recipe stands in the model
file. Published figures are of the papers named beside them.

`python -m tinyinfer.reproduce.mnist` puts the weights of the first seed into models/weights.
"""

import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import data, train
from ..nn import file
from ..ops import manual_seed

PUBLISHED = {
    "mlp": "98 % (784-256-10)",
    "mlp_deep": "",
    "lenet_300_100": "98.36 % (Han et al. 2015, before compression)",
    "lenet_caffe": "99.20 % (Han et al. 2015, before compression)",
    "lenet": "99.05 % (LeCun et al. 1998)",
}
LARGEST = 1_000_000  # bytes of a file of weights that is still shipped in single precision


def table(seeds=3, models="models", out="runs/reproduce-mnist") -> Table:
    """A row for each network: published, ours, seconds an epoch."""
    console = Console()
    shown = Table("network", "published", "ours", "spread", "seeds", "epochs", "s / epoch")
    for name, published in PUBLISHED.items():
        model_file = train.modelfile.load(Path(models, f"{name}.py"))
        runs = []
        for seed in range(seeds):
            runs.append(trained(model_file, seed, Path(out, f"{name}-{seed}")))
            console.print(f"{name}, seed {seed}: {runs[-1][-1]['test_accuracy']:.2%}")
        last = [rows[-1]["test_accuracy"] for rows in runs]
        seconds = statistics.median(row["seconds"] for rows in runs for row in rows)
        spread = f"± {statistics.stdev(last):.2%}" if seeds > 1 else ""
        shown.add_row(
            name, published, f"{statistics.mean(last):.2%}", spread,
            str(seeds), str(len(runs[0])), f"{seconds:.1f}",
        )  # fmt: skip
    return shown


def trained(model_file, seed, folder) -> list[dict]:
    """The metrics of a run: of the finished one in the folder, or of one that goes on or begins now."""
    manual_seed(seed)
    halves, recipe = data.mnist(), model_file.recipe("mnist")
    run = train.Run(model_file.build(), recipe, *halves, model_file.input_shape, seed)
    begun = train.Folder(folder).checkpoint.exists()
    rows = train.fit(run, folder, resume=begun)
    train.Folder(folder).finish(run)
    return rows


def ship(models="models", out="runs/reproduce-mnist"):
    """Put the weights of the first seed into models/weights, in half precision if they are large.

    Raises LoadError if one of the runs that `table` makes is not finished.
    """
    Path(models, "weights").mkdir(exist_ok=True)
    for name in PUBLISHED:
        weights, about = file.read(Path(out, f"{name}-0", train.folder.WEIGHTS))
        if sum(x.size * x.dtype.itemsize for x in weights.values()) > LARGEST:
            weights = {k: x.astype("float16") for k, x in weights.items()}
        file.save(weights, Path(models, "weights", f"{name}.safetensors"), about)


if __name__ == "__main__":
    ship()
