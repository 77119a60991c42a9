"""What people train with: labelled images, and the batches that they come in."""

from . import transforms
from .datasets import Dataset, digits, fashion_mnist, load, mnist
from .loader import DataLoader

__all__ = ["DataLoader", "Dataset", "digits", "fashion_mnist", "load", "mnist", "transforms"]
