"""Optimizers, and schedules of their learning rates."""

# ruff: noqa: F401
from . import lr_scheduler
from .lr_scheduler import (
    ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR,
)  # fmt: skip
from .optimizer import SGD, Adam, AdamW, Optimizer, RMSprop
