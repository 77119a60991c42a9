"""Modules: layers, activations, pooling, losses, and how they are put together."""

# ruff: noqa: F401
from . import functional, init, utils
from .attention import MultiheadAttention
from .layers import (
    BatchNorm1d, BatchNorm2d, Conv1d, Conv2d, ConvTranspose2d, Dropout, Embedding, LayerNorm, Linear,
)  # fmt: skip
from .module import Module, ModuleDict, ModuleList, Parameter, Sequential
from .recurrent import GRU, LSTM, RNN
from .stateless import (
    ELU, GELU, AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, BCEWithLogitsLoss, CrossEntropyLoss,
    Flatten, Hardswish, Identity, KLDivLoss, L1Loss, LeakyReLU, LogSoftmax, MaxPool2d, MSELoss,
    NLLLoss, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh,
)  # fmt: skip
