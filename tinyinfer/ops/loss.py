"""Losses: one number that says how wrong a prediction is. `reduction` is "mean", "sum" or "none"."""

from ..core.tensor import as_tensor
from ..errors import ArgumentError, DTypeError, ShapeError
from .activation import softplus
from .elementwise import abs, exp, log, where
from .index import Index, grid
from .reduce import log_softmax


def reduced(what, losses, reduction):
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f'{what}: reduction is "mean", "sum" or "none", not {reduction!r}')
    return losses if reduction == "none" else getattr(losses, reduction)()


def same_shape(what, x, target):
    if x.shape != target.shape:
        raise ShapeError(f"{what}: prediction {x.shape} and target {target.shape} differ in shape")


def cross_entropy(logits, target, reduction="mean", label_smoothing=0.0):
    """-log softmax(logits)[target]: logits (n, classes, ...), target integers (n, ...), or
    probabilities of the shape of the logits.

    Raises RangeError for a label that is not among the classes.
    With `label_smoothing` e the target is (1 - e) of itself, and e spread evenly (Szegedy 2016).
    """
    target = as_tensor(target)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing from 0 to 1, not {label_smoothing}")
    if logits.ndim == 1:  # of one example, without a batch
        logits, target = logits.unsqueeze(0), target.unsqueeze(0)
        reduction = "sum" if reduction == "none" else reduction
    logp = log_softmax(logits, 1)
    if target.spec.floating and target.ndim == logits.ndim:
        same_shape("cross_entropy", logits, target)
        losses = -(target * logp).sum(1)
    else:
        losses = at_labels("cross_entropy", logp, target)
    if label_smoothing:
        losses = losses * (1 - label_smoothing) - logp.mean(1) * label_smoothing
    return reduced("cross_entropy", losses, reduction)


def nll_loss(logp, target, reduction="mean"):
    """-logp[target]: log-probabilities (n, classes, ...), integers (n, ...)."""
    return reduced("nll_loss", at_labels("nll_loss", logp, as_tensor(target)), reduction)


def at_labels(what, logp, target):
    """-logp[n, target[n, ...], ...]"""
    if target.dtype.kind not in "iu":
        raise DTypeError(f"{what}: labels are integers, not {target.spec}: write .astype('int64')")
    if target.shape != logp.shape[:1] + logp.shape[2:]:
        raise ShapeError(
            f"{what}: predictions {logp.shape} are (n, classes, ...), so labels must be "
            f"{logp.shape[:1] + logp.shape[2:]}, not {target.shape}"
        )
    return -Index(what)(logp, *grid(logp.shape, 1, target.unsqueeze(1), what)).squeeze(1)


def mse_loss(x, target, reduction="mean"):
    """(x - target)^2, of one shape."""
    same_shape("mse_loss", x, target)
    return reduced("mse_loss", (x - target) * (x - target), reduction)


def l1_loss(x, target, reduction="mean"):
    """|x - target|, of one shape."""
    same_shape("l1_loss", x, target)
    return reduced("l1_loss", abs(x - target), reduction)


def binary_cross_entropy_with_logits(logits, target, reduction="mean"):
    """-t log p - (1 - t) log(1 - p) for p = sigmoid(logits), t in [0, 1], without overflow."""
    same_shape("binary_cross_entropy_with_logits", logits, target)
    return reduced(
        "binary_cross_entropy_with_logits", softplus(logits) - logits * target, reduction
    )


def kl_div(logp, target, reduction="mean", log_target=False):
    """target (log target - logp), 0 where target is: the distance of two distributions.

    `reduction="batchmean"` divides the sum by the first size, as the definition has it.
    """
    same_shape("kl_div", logp, target)
    if log_target:
        losses = exp(target) * (target - logp)
    else:
        losses = where(target > 0.0, target * (log(where(target > 0.0, target, 1.0)) - logp), 0.0)
    if reduction == "batchmean":
        return losses.sum() / logp.shape[0]
    return reduced("kl_div", losses, reduction)
