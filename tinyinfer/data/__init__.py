"""What people train with: labelled images, and the batches that they come in."""

from . import transforms
from .datasets import SETS, Dataset, digits, fashion_mnist, load, mnist
from .loader import DataLoader, ahead

__all__ = [
    "SETS",
    "DataLoader",
    "Dataset",
    "ahead",
    "digits",
    "fashion_mnist",
    "load",
    "mnist",
    "transforms",
]
