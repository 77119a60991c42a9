"""Optimizers, and schedules of their learning rates."""

# ruff: noqa: F401
from .optimizer import SGD, Adam, AdamW, Optimizer, RMSprop
from .schedule import ConstantLR, CosineLR, OneCycleLR, Schedule, StepLR, WarmupLR
