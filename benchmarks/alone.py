"""What benchmarks/networks.py measures in processes of their own: memory, the time to compile, and an
epoch of training as the command line does it. Each function prints what it found, as JSON.

python benchmarks/alone.py memory_of_ours
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from peers import MODELS, TORCH, batch, build, our_step, torch_step

STEPS = 50
TRAINED = "mlp", "lenet"


def found(what, *args, **environment):
    """What that function finds, in a new process."""
    command = sys.executable, __file__, what, *map(str, args)
    return json.loads(output(*command, **environment).splitlines()[-1])


def output(*command, **environment):
    """What it prints. Python may keep bytecode, as it does wherever something is installed."""
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""} | environment
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---- memory ----------------------------------------------------------------------------------------


def memory_of_ours():
    import tinyinfer as ti

    given = {name: [*map(ti.tensor, batch(name, 64))] for name in TRAINED}

    def make(name):
        step = our_step(build(name))
        return lambda: step(*given[name]) and step

    step, *grown = growths(make)
    states = {*step.graph.states.values(), *step.graph.updates}
    weights = sum(s.numpy().nbytes for s in states)
    return {"grown": grown, "arena": step.plan.arena_bytes, "weights": weights}


def memory_of_torch():
    import torch

    torch.set_num_threads(1)
    given = {name: batch(name, 64) for name in TRAINED}
    make = lambda name: torch_step(TORCH[name](torch.nn), *given[name])
    return {"grown": growths(make)[1:]}


def growths(make):
    """What a step gives; and by how many bytes at most it grew what is resident to make and train
    LeNet-5: after a step of another network, and once more, when all code was there."""
    first, network = TRAINED
    make(first)()
    grown = []
    for _ in range(2):
        run = result = None
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        run = make(network)
        for _ in range(STEPS):
            result = run()
        grown.append(status("VmHWM") - before)
    return result, *grown


def resident():
    """After what is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return status("VmRSS")


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


# ---- the time to compile ---------------------------------------------------------------------------


def compile_time(kind):
    """Seconds of the import of the library, and from ti.compile to the first result."""
    start = time.perf_counter()
    import tinyinfer as ti

    imported = time.perf_counter() - start
    model = build("lenet")
    if kind == "training":
        given = [*map(ti.tensor, batch("lenet", 64))]
        start = time.perf_counter()
        our_step(model)(*given)
    else:
        with ti.no_grad():
            x = ti.tensor(batch("lenet", 1)[0])
            start = time.perf_counter()
            ti.compile(model.eval())(x)
    return {"import": imported, "first": time.perf_counter() - start}


def compile_times(kind, again):
    """What an empty cache takes, and so many processes after it. Python keeps its bytecode, as usual."""
    with TemporaryDirectory() as folder:
        caches = dict(XDG_CACHE_HOME=folder, NUMBA_CACHE_DIR=f"{folder}/numba")
        caches["PYTHONDONTWRITEBYTECODE"] = ""
        return [found("compile_time", kind, **caches) for _ in range(1 + again)]


# ---- an epoch of LeNet-5 on MNIST ------------------------------------------------------------------


def epoch_of_ours(threads):
    """Seconds of the whole command, by the clock and of the CPU, and of the epoch alone, test included;
    and what it learned. The command also saves a checkpoint and draws three pictures."""
    tinyinfer = Path(sys.executable).with_name("tinyinfer")
    with TemporaryDirectory() as folder:
        given = MODELS / "lenet.py", "--data", "mnist", "--epochs", 1, "--threads", threads
        spent = timed(output, *map(str, (tinyinfer, "train", *given, "--out", f"{folder}/run")))[1]
        row = json.loads(Path(folder, "run", "metrics.jsonl").read_text())
    return {**spent, "epoch": row["seconds"], "accuracy": row["test_accuracy"]}


def epoch_of_torch(threads):
    row, spent = timed(found, "torch_epoch", threads)
    return {**spent, **row}


def timed(run, *args):
    """What it gives, and the seconds that it and the processes which it starts take."""
    busy = lambda: sum(os.times()[:4])
    start, before = time.perf_counter(), busy()
    result = run(*args)
    return result, {"command": time.perf_counter() - start, "CPU": busy() - before}


def torch_epoch(threads):
    """The same loop, in a process that also imports PyTorch, reads the images, and saves the weights."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    batches = DataLoader(Images("train", shift=1), 64, shuffle=True)
    test = Images("t10k", shift=0)
    model, loss_of = TORCH["lenet"](torch.nn), torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, len(batches), cycle_momentum=False
    )
    start, total, right = time.perf_counter(), 0.0, 0
    for pixels, labels in batches:
        optimizer.zero_grad()
        logits = model(normalized(pixels))
        loss = loss_of(logits, labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
    with torch.no_grad():
        pairs = DataLoader(test, 256)
        read = sum((model(normalized(x)).argmax(1) == y).sum().item() for x, y in pairs)
    seconds = time.perf_counter() - start
    with TemporaryDirectory() as folder:
        torch.save(model.state_dict(), f"{folder}/model.pt")
    return {"epoch": seconds, "accuracy": read / len(test)}


def normalized(pixels):
    return (pixels / 255 - 0.1307) / 0.3081


class Images:
    """Of MNIST, 32 x 32, and moved by chance as far as `shift`: cut out of larger ones.

    PyTorch's loader takes a whole batch from `__getitems__`: twice as fast as one by one, and faster
    than indices for all pixels of the batch."""

    def __init__(self, half, shift):
        import gzip

        import numpy as np
        import torch

        folder = Path(os.environ["TINYINFER_DATA"], "mnist")
        read = lambda name: gzip.decompress((folder / f"{half}-{name}-ubyte.gz").read_bytes())
        pixels = np.frombuffer(bytearray(read("images-idx3")), np.uint8, offset=16)
        labels = np.frombuffer(read("labels-idx1"), np.uint8, offset=8)
        pixels = torch.from_numpy(pixels.reshape(-1, 1, 28, 28))
        self.images = torch.nn.functional.pad(pixels, [2 + shift] * 4)
        self.labels, self.shift = torch.from_numpy(labels.astype(np.int64)), shift

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, rows):
        import torch

        moves = torch.randint(2 * self.shift + 1, (len(rows), 2)).tolist()
        return [
            (self.images[i, :, row : row + 32, column : column + 32], self.labels[i])
            for i, (row, column) in zip(rows, moves)
        ]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
