"""Layers without parameters: functions as modules, with the function's own options."""

from inspect import Signature, isfunction, signature

from .. import ops as F
from .module import Module


class Function(Module):
    """Calls the function of its class. Its options are that function's, after the tensors."""

    def __init_subclass__(cls, of, tensors=1):
        cls._function = staticmethod(of)
        taken = [*signature(of).parameters.values()][tensors:] if isfunction(of) else []
        cls._options = cls.__signature__ = Signature(taken)

    def __init__(self, *args, **kwargs):
        given = self._options.bind(*args, **kwargs)
        given.apply_defaults()
        vars(self).update(given.arguments)

    def forward(self, *tensors):
        return self._function(*tensors, **{k: vars(self)[k] for k in self._options.parameters})


# fmt: off
class Identity(Function, of=F.identity): """x"""
class ReLU(Function, of=F.relu): """max(x, 0)"""
class LeakyReLU(Function, of=F.leaky_relu): """x where x > 0, else negative_slope x"""
class ELU(Function, of=F.elu): """x where x > 0, else alpha (exp(x) - 1)"""
class GELU(Function, of=F.gelu): """x Phi(x)"""
class SiLU(Function, of=F.silu): """x sigmoid(x)"""
class Softplus(Function, of=F.softplus): """log(1 + exp(x))"""
class Hardswish(Function, of=F.hardswish): """x clip(x + 3, 0, 6) / 6"""
class Sigmoid(Function, of=F.sigmoid): """1 / (1 + exp(-x))"""
class Tanh(Function, of=F.tanh): """tanh(x)"""
class Softmax(Function, of=F.softmax): """exp(x) / sum exp(x) along dim"""
class LogSoftmax(Function, of=F.log_softmax): """x - log sum exp(x) along dim"""

class MaxPool2d(Function, of=F.max_pool2d): """The largest of each window"""
class AvgPool2d(Function, of=F.avg_pool2d): """The mean of each window"""
class AdaptiveMaxPool2d(Function, of=F.adaptive_max_pool2d): """Maxima of output_size windows"""
class AdaptiveAvgPool2d(Function, of=F.adaptive_avg_pool2d): """Means of output_size windows"""

class CrossEntropyLoss(Function, of=F.cross_entropy, tensors=2): """-log softmax(logits)[target]"""
class NLLLoss(Function, of=F.nll_loss, tensors=2): """-logp[target]"""
class MSELoss(Function, of=F.mse_loss, tensors=2): """(x - target)^2"""
class L1Loss(Function, of=F.l1_loss, tensors=2): """|x - target|"""
class BCEWithLogitsLoss(Function, of=F.binary_cross_entropy_with_logits, tensors=2): """-t log p - (1 - t) log(1 - p)"""
class KLDivLoss(Function, of=F.kl_div, tensors=2): """target (log target - logp)"""
# fmt: on


def flatten(x, start_dim=1, end_dim=-1):
    return F.flatten(x, start_dim, end_dim)


class Flatten(Function, of=flatten):
    """The dimensions from start_dim become one: (n, c, h, w) -> (n, c h w)."""
