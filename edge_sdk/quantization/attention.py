"""Attention that never stores the scores of all queries with all keys, compiled or by PyTorch."""

import torch
import torch.nn.functional as F

from edge_sdk.quantization import layers, native

MIN_KEYS = 128  # with fewer keys, PyTorch's attention is nearly as fast, and exact
MIN_COARSE_KEYS = 64  # the same where layers round to 8 bits anyway
Keys = native.Keys | tuple[torch.Tensor, torch.Tensor]


def prepared(k: torch.Tensor, v: torch.Tensor, heads: int, rounded: bool = False, coarse: bool = False) -> Keys:
    """Keys and values (B, T, heads * d) for `attention`.

    Args:
        rounded: all factors may be rounded to 16 bits, as `integer` layers round activations; ignored where a gradient
            is needed.
        coarse: the layers round activations, or their differences, to 8 bits.
    """
    due = torch.is_grad_enabled() and (k.requires_grad or v.requires_grad)
    if (
        rounded
        and not due
        and k.shape[1] >= (MIN_COARSE_KEYS if coarse else MIN_KEYS)
        and layers.backend(k.device) is native
    ):
        return native.quantized_keys(k.float().contiguous(), v.float().contiguous(), heads)
    return k, v


def attention(q: torch.Tensor, keys: Keys, heads: int, room: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v in every head: q (B, S, heads * d) -> (B, S, heads * d), in ``room`` if it fits."""
    if isinstance(keys, native.Keys):
        rows = q.float().contiguous()
        out = torch.empty_like(rows) if room is None else room
        native.attention(rows, keys, out)
        return out.to(q.dtype)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, *keys))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
