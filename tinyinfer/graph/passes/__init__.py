"""Passes: one a file, each a pure function Graph -> Graph."""

from .cse import cse
from .fold import fold
from .fuse import fuse
from .split import split
from .strip import strip
