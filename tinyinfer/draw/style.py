"""What all pictures share: colours that stay apart in grey and for the colour blind, on white."""

from pathlib import Path
from typing import NamedTuple

from ..errors import ArgumentError

PAPER, FAINT, MUTED, INK = "#ffffff", "#cfd6dd", "#5c6873", "#1f2429"
WASHES = "#f5f7f9", "#ebeff3"


class Colour(NamedTuple):
    fill: str
    line: str


BLUE = Colour("#dcebf8", "#2868a3")
AMBER = Colour("#fcebcc", "#a8640a")
GREEN = Colour("#c9e8da", "#12704f")
GREY = Colour("#e9ecef", "#68727c")


def destination(path, formats) -> tuple[Path, str]:
    """The path, and the format its ending asks for; ArgumentError if nothing can be written so."""
    path = Path(path)
    kind = path.suffix[1:].lower()
    if kind not in formats:
        raise ArgumentError(f"a picture cannot be {path.name!r}: end it in .{', .'.join(formats)}")
    if not path.parent.is_dir():
        raise ArgumentError(f"the picture {path.name} has no folder {path.parent}: make it first")
    return path, kind
