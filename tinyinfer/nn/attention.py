"""Attention with several heads: each looks at the sequence in its own projection."""

import numpy as np

from .. import ops as F
from ..core.check import number, whole
from ..errors import ArgumentError, ShapeError
from . import init
from .functional import attention_weights
from .layers import Linear, expect
from .module import Module, Parameter


class MultiheadAttention(Module):
    """concat(head_1, ..., head_h) @ W_o.T, with head_i = softmax(q_i @ k_i.T / sqrt(d)) @ v_i and
    q_i, k_i, v_i of size d = embed_dim / num_heads, linear in query, key and value.

    Vaswani et al. 2017, section 3.2.2. `in_proj_weight` (3 embed_dim, embed_dim) holds the
    projections of query, key and value below one another.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, batch_first=False):
        whole("MultiheadAttention embed_dim", embed_dim, 1)
        if embed_dim % whole("MultiheadAttention num_heads", num_heads, 1):
            raise ArgumentError(
                f"MultiheadAttention: {num_heads} heads must divide embed_dim {embed_dim}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.dropout = number("MultiheadAttention dropout", dropout, "[0, 1)")
        self.batch_first = batch_first
        self.in_proj_weight = Parameter(init.xavier_uniform((3 * embed_dim, embed_dim)))
        self.in_proj_bias = Parameter(np.zeros(3 * embed_dim, np.float32)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if bias:
            self.out_proj.bias.assign(F.zeros(embed_dim))

    def forward(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
        average_attn_weights=True,
    ):  # fmt: skip
        """query (n, batch, embed_dim), key and value (m, batch, embed_dim), with `batch_first` the
        batch before, or all three without it -> (output, of the shape of query; weights).

        The weights are (batch, n, m), the mean of the heads, or, unless `average_attn_weights`,
        (batch, heads, n, m); None, if not needed. `key_padding_mask` (batch, m) and `attn_mask`
        (n, m) or (batch * heads, n, m) are True where nobody may look (unlike in
        scaled_dot_product_attention), or numbers that are added to the scores.
        Raises ShapeError for other shapes.
        """
        unbatched = query.ndim == 2
        place = 0 if unbatched or self.batch_first else 1  # of the batch
        self._check(query, key, value, place)
        batched = lambda x: (x.unsqueeze(0) if unbatched else x).movedim(place, 0)
        q, k, v = self._projected(*map(batched, (query, key, value)))
        masks = self._masks(key_padding_mask, attn_mask, (*q.shape[:3], k.shape[2]))
        weights = F.dropout(attention_weights(q, k, masks), self.dropout, self.training)
        y = self.out_proj((weights @ v).transpose(1, 2).flatten(2)).movedim(0, place)
        y = y.squeeze(0) if unbatched else y
        if not need_weights:
            return y, None
        weights = weights.mean(1) if average_attn_weights else weights
        return y, weights.squeeze(0) if unbatched else weights

    def _check(self, query, key, value, place):
        fits = key.shape == value.shape and query.ndim == key.ndim in (2, 3)
        fits = fits and query.shape[-1] == key.shape[-1] == self.embed_dim
        if not (fits and (query.ndim == 2 or query.shape[place] == key.shape[place])):
            order = "batch, length" if self.batch_first else "length, batch"
            raise ShapeError(
                f"query, key and value are ({order}, {self.embed_dim}) or (length, "
                f"{self.embed_dim}), key and value of one shape: not {query.shape}, {key.shape}, "
                f"{value.shape}"
            )

    def _projected(self, *inputs):
        """(batch, length, embed_dim), three of them -> (batch, heads, length, size of a head)"""
        weights = F.split(self.in_proj_weight, self.embed_dim)
        biases = [None] * 3
        if self.in_proj_bias is not None:
            biases = F.split(self.in_proj_bias, self.embed_dim)
        for x, w, b in zip(inputs, weights, biases):
            heads = (*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads)
            yield F.linear(x, w, b).reshape(heads).transpose(1, 2)

    def _masks(self, padding, mask, scores):
        """Both masks, fit for scores (batch, heads, n, m), True where a query may look."""
        batch, heads, n, m = scores
        looking = lambda mask: ~mask if mask.dtype == bool else mask
        if padding is not None:
            padding = padding.unsqueeze(0) if padding.ndim == 1 else padding
            fits = padding.shape == (batch, m)
            expect(fits, "key_padding_mask", f"({batch}, {m})", padding)
            yield looking(padding).reshape(batch, 1, 1, m)
        if mask is not None:
            fits = mask.shape in ((n, m), (batch * heads, n, m))
            expect(fits, "attn_mask", f"({n}, {m}) or ({batch * heads}, {n}, {m})", mask)
            yield looking(mask) if mask.ndim == 2 else looking(mask).reshape(scores)

    def __repr__(self):
        return f"{type(self).__name__}({self.extra_repr()})"
