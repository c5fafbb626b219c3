"""Attention that makes no scores of all queries with all keys, neither compiled nor PyTorch's."""

import torch
import torch.nn.functional as F

from edge_sdk.quantization import layers, native

MIN_KEYS = 128  # with fewer, PyTorch's is as fast


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, rounded: bool = False) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v in every head: q (B, S, heads * d), k and v (B, T, heads * d) -> (B, S, heads * d).

    Args:
        rounded: q and k may be rounded to 16 bits, as `integer` layers round activations; they never are where a
            gradient is due.
    """
    due = torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))
    if rounded and not due and k.shape[1] >= MIN_KEYS and layers.backend(q.device) is native:
        rows = q.float().contiguous()
        out = torch.empty_like(rows)
        native.attention(rows, k.float().contiguous(), v.float().contiguous(), heads, out)
        return out.to(q.dtype)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
