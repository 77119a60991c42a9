"""What all pictures share: colours that stay apart in grey and for the colour blind, on white."""

from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import ArgumentError

PAPER, FAINT, MUTED, INK = "#ffffff", "#cfd6dd", "#5c6873", "#1f2429"
ASIDE = "#b3bcc5"  # of arrows that are not the way of the data
WASHES = "#f5f7f9", "#ebeff3"


class Colour(NamedTuple):
    fill: str
    line: str


BLUE = Colour("#dcebf8", "#2868a3")
AMBER = Colour("#fcebcc", "#a8640a")
GREEN = Colour("#c9e8da", "#12704f")
GREY = Colour("#e9ecef", "#68727c")
RED = Colour("#fdeceb", "#b3261e")


def shade(share) -> tuple[str, str]:
    """From white, 0, to dark violet, 1: lightness falls evenly, so it can be read in grey too; and
    the colour of what is written on it. (ColorBrewer's BuPu.)"""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["BuPu"](float(share))), PAPER if share > 0.55 else INK


def destination(path, formats) -> tuple[Path, str]:
    """The path, and the format its ending asks for; ArgumentError if nothing can be written so."""
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in formats:
        raise ArgumentError(f"a picture cannot be {path.name!r}: end it in .{', .'.join(formats)}")
    if not path.parent.is_dir():
        raise ArgumentError(f"the picture {path.name} has no folder {path.parent}: make it first")
    return path, kind


# Charts

SHEET = {  # for Matplotlib, while a chart is made
    "font.family": "DejaVu Sans",  # comes with it: the same picture everywhere
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": PAPER,
    "hatch.linewidth": 0.5,
    "savefig.dpi": 144,
    "svg.hashsalt": "tinyinfer",
}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


@contextmanager
def sheet(path, width, height, title):
    """An empty Figure, in inches; what is on it at the end is written to the path."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    path, kind = destination(path, UNDATED)
    with rc_context(SHEET):
        figure = Figure((width, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        if title:
            figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        yield figure
        figure.savefig(path, metadata=UNDATED[kind])
