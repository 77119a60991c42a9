"""What runs a graph: an order of its steps, a place in memory for each value, and who carries them
out."""

from . import nested
