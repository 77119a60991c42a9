"""Fast loops, and what they share."""

from . import plain
