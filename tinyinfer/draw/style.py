"""What all pictures share: colours that stay apart in grey and for the colour blind, on white."""

from contextlib import contextmanager
from functools import cache
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
VIOLET = Colour("#e6e0f5", "#5d4a9c")
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
    "figure.dpi": 144,
    "svg.hashsalt": "tinyinfer",
}
SMALL = 7  # points, of the letters in a block
LINE_OF_SMALL = 1.25 * SMALL
HATCHED = {"facecolor": PAPER, "edgecolor": ASIDE, "hatch": "/////"}  # of what is free
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
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)  # or it would be drawn once more, to be laid out
        figure.savefig(path, metadata=UNDATED[kind])


def legend(figure, keys):
    """Beneath, in one line."""
    look = {"frameon": False, "fontsize": 8, "labelcolor": MUTED, "columnspacing": 1.5}
    figure.legend(handles=keys, loc="outside lower left", ncols=len(keys), **look)


def write_in(ax, box, lines, fill="none"):
    """Write as much of these lines as there is room for, one way or the other, into a block, whose
    corners (4, 2) are in data; on this colour, if there are lines across it. The axes have got their
    size before."""
    low, high = ax.transData.transform(box[[0, 2]]) * 72 / ax.figure.dpi
    place = high - low - 3
    if min(place) < LINE_OF_SMALL - 4:
        return
    for text, turn in ways(lines):
        parts = text.split("\n")
        needs = max(map(width_of, parts)), LINE_OF_SMALL * len(parts) - 3.3
        if (place >= (needs[::-1] if turn else needs)).all():
            ax.text(
                *box[::2].mean(0), text, rotation=turn, fontsize=SMALL, ha="center", va="center",
                linespacing=1.2, parse_math=False, in_layout=False, clip_on=True, zorder=5,
                bbox={"facecolor": fill, "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
            return


def ways(lines):
    """What may be written, and how it is turned: all lines, or the first and the last, or the first."""
    for some in (lines, lines[:1] + lines[-1:], lines[:1]):
        for turn in (0, 90):
            for between in ("\n", "  "):
                yield between.join(some), turn


@cache
def width_of(text) -> float:
    """In points, in small letters."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    font = FontProperties(family=SHEET["font.family"], size=SMALL)
    return TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]
