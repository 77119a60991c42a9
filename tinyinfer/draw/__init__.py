"""Pictures: of graphs by Graphviz, of numbers by Matplotlib; both are imported when one is drawn."""

# ruff: noqa: F401
from . import arena, diff, graph, roofline, schedule
