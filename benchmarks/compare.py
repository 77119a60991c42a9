"""Peers side by side: every rival does the same work in turns, in one run, so that what the machine
does meanwhile hits all alike. Ratios of medians are the result; a time alone is noise."""

import argparse
import gc
import statistics
import time

from rich.console import Console
from rich.table import Table

OURS = "tinyinfer"
WARM = 1e-2  # seconds: a thread may wait half of that until Python lets it begin


def interleaved(rivals: dict, rounds: int, warmup: int = 3) -> dict[str, float]:
    """{name: median seconds} of calling each function of {name: function}, taking turns."""
    times = {name: [] for name in rivals}
    for i in range(warmup + rounds):
        for name, run in rivals.items():
            gc.collect()
            start = time.perf_counter()
            run()
            if i >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def medians(rivals: dict, rounds: int, clock=time.perf_counter, least=2e-3) -> dict[str, float]:
    """The same for short ones, which run many times in a row, for `least` seconds. Before it is timed each
    runs as long for nothing, and no less than WARM, so that it finds its threads awake and its own numbers
    in the caches: after another one has moved much it takes milliseconds until they are there again. And
    it has the cores for itself."""
    turns = {name: turns_of(run, least) for name, run in rivals.items()}
    times = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, run in rivals.items():
            wait_for_threads()
            warm = time.perf_counter() + max(least, WARM)
            while time.perf_counter() < warm:
                run()
            start = clock()
            for _ in range(turns[name]):
                run()
            times[name].append((clock() - start) / turns[name])
    return {name: statistics.median(t) for name, t in times.items()}


def wait_for_threads(patience=50):
    """Until those of the last rival sleep, which first go on looking for work: PyTorch's for some 10 ms,
    OpenBLAS's for 100. Linux counts the time of another thread every 4 ms. This one stays busy, so that
    its core keeps its clock."""
    others = lambda: time.process_time() - time.thread_time()
    for _ in range(patience):
        before, end = others(), time.perf_counter() + 1e-2
        while time.perf_counter() < end:
            pass
        if others() - before < 2e-3:
            break


def turns_of(run, least):
    run()
    start = time.perf_counter()
    run()
    return max(1, min(1000, int(least / (time.perf_counter() - start + 1e-9))))


def compare(title: str, cases: dict[str, dict], unit=1e-6, unit_name="µs", per=1, rounds=30):
    """Print a row a case: the time of each rival, and ours as a ratio to each peer.

    `cases` is {case: {rival: function}}; `per` is how many operations one call does.
    """
    peers = list(
        dict.fromkeys(name for rivals in cases.values() for name in rivals if name != OURS)
    )
    table = Table("case", OURS, *peers, *(f"ours / {p}" for p in peers), title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for case, rivals in cases.items():
        found = interleaved(rivals, rounds)
        shown = [
            f"{found[n] / per / unit:.2f} {unit_name}" if n in found else "" for n in (OURS, *peers)
        ]
        ratios = [f"{found[OURS] / found[p]:.2f}" if p in found else "" for p in peers]
        table.add_row(case, *shown, *ratios)
    Console().print(table)


def arguments(description: str, rounds=30, more=None):
    """`more` may add arguments of its own to the parser."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=1, help="of every rival's linear algebra")
    if more:
        more(parser)
    return parser.parse_args()


def use_threads(n: int):
    """Before NumPy is imported: OpenBLAS reads it only once."""
    import os

    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(n)
