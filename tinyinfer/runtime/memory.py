"""Where each buffer lies in one arena."""

from typing import NamedTuple


class Buffer(NamedTuple):
    """So many bytes, from the stage that first writes them to the last that needs them."""

    name: str
    size: int
    first: int
    last: int


class Placement(NamedTuple):
    planner: str
    offsets: tuple[int, ...]  # of each buffer, in bytes
    total: int  # bytes of the arena
