"""Every op under the name that PyTorch's users look for: `from tinyinfer.nn import functional as F`."""

import math

import numpy as np

from ..core.tensor import tensor
from ..errors import ShapeError
from ..ops import *  # noqa: F403
from ..ops import dropout, full, softmax, where


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None
):
    """softmax(query @ key.mT * scale) @ value: query (..., n, e), key (..., m, e), value (..., m, v)
    -> (..., n, v); scale is 1 / sqrt(e), if not given. Vaswani et al. 2017, section 3.2.1.

    `attn_mask` (..., n, m) is True where a query may look at a key, or numbers that are added to
    the scores; with `is_causal` query i sees the keys 0 to i. `dropout_p` always applies.
    """
    causal = tensor(np.tri(query.shape[-2], key.shape[-2], dtype=bool)) if is_causal else None
    masks = [mask for mask in (attn_mask, causal) if mask is not None]
    return dropout(attention_weights(query, key, masks, scale), dropout_p) @ value


def attention_weights(query, key, masks=(), scale=None):
    """How much each query looks at each key, (..., n, m): positive, and 1 in sum over the keys."""
    if query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"attention: query {query.shape} and key {key.shape} differ in last size")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.mT
    least = np.finfo(scores.dtype).min  # not -inf: a row that sees nothing would be NaN
    hidden = full((), least, scores.dtype)
    for mask in masks:
        scores = where(mask, scores, hidden) if mask.dtype == bool else scores + mask
    return softmax(scores, -1)
