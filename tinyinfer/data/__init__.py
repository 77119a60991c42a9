"""What people train with: labelled images, and the batches that they come in."""

from . import transforms
from .datasets import SETS, Dataset, digits, fashion_mnist, load, mnist
from .loader import DataLoader

__all__ = [
    "SETS",
    "DataLoader",
    "Dataset",
    "digits",
    "fashion_mnist",
    "load",
    "mnist",
    "transforms",
]
