"""CLIP's text encoder, with the numbers of transformers' own, on PyTorch alone.

A token id of ``vocab_size + k`` stands for vector k of the learned embedding, which is an argument of every call and
may differ from row to row; the embedding table is never copied or changed, and may stay in a file in half precision.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from edge_sdk.diffusion.configs import known_entries
from edge_sdk.diffusion.tables import CLIP
from edge_sdk.quantization import joint
from edge_sdk.quantization.threads import by_size


@dataclass(frozen=True)
class ClipConfig:
    """The part of transformers' ``config.json`` that differs between the supported models, with its defaults."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    layer_norm_eps: float = 1e-5
    hidden_act: str = "quick_gelu"
    projection_dim: int = 512

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "ClipConfig":
        """Read transformers' config; raises EdgeSdkError if it describes a network that is not supported."""
        return cls(**known_entries(cls, config, CLIP))


class _Embeddings(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: torch.Tensor, learned: torch.Tensor | None) -> torch.Tensor:
        table, positions = self.token_embedding.weight, self.position_embedding.weight[: ids.shape[1]].float()
        if learned is None:
            return F.embedding(ids, table).float() + positions
        new = ids - len(table)
        rows = F.embedding(torch.where(new < 0, ids, 0), table).float()  # (B, T, D)
        index = new.clamp_min(0)[..., None].expand(-1, -1, learned.shape[2])
        return torch.where((new >= 0)[..., None], learned.gather(1, index), rows) + positions


class _SelfAttention(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        size, self.heads = config.hidden_size, config.num_attention_heads
        self.q_proj, self.k_proj = nn.Linear(size, size), nn.Linear(size, size)
        self.v_proj, self.out_proj = nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in joint.linear((self.q_proj, self.k_proj, self.v_proj), x)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.quick = config.hidden_act == "quick_gelu"
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.fc1(x)
        if not self.quick:
            return self.fc2(F.gelu(hidden))
        gate = 1.702 * hidden
        if torch.is_grad_enabled():
            return self.fc2(hidden * torch.sigmoid(gate))
        return self.fc2(gate.sigmoid_().mul_(hidden))


class _Layer(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layer_norm1, self.self_attn = (
            nn.LayerNorm(config.hidden_size, config.layer_norm_eps),
            _SelfAttention(config),
        )
        self.layer_norm2, self.mlp = nn.LayerNorm(config.hidden_size, config.layer_norm_eps), _Mlp(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Encoder(nn.Module):
    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.num_hidden_layers)])


class ClipText(nn.Module):
    """Token ids, some of which stand for learned vectors -> hidden states.

    Args:
        projected: the model has a ``text_projection`` for pooled states (SDXL's second encoder).
    """

    def __init__(self, config: ClipConfig, projected: bool = False) -> None:
        super().__init__()
        self.config = config
        self.embeddings, self.encoder = _Embeddings(config), _Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        if projected:
            self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    @by_size(lambda model, ids: ids.numel() * model.config.intermediate_size)
    def forward(self, ids: torch.Tensor, learned: torch.Tensor | None = None, skip_last: bool = False) -> torch.Tensor:
        """ids (B, T) int64, learned (B, K, D) float32 or None -> (B, T, D) float32.

        The last hidden state after the final norm, or with ``skip_last`` that before the last layer, without it.
        """
        x = self.embeddings(ids, learned)
        layers = self.encoder.layers
        for layer in layers[: len(layers) - 1] if skip_last else layers:
            x = layer(x)
        return x if skip_last else self.final_layer_norm(x)

    def pool(self, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The projected state of one token a row, for an encoder that is ``projected``.

        Args:
            hidden: (B, T, D) float32, what `forward` gives with ``skip_last``.
            position: (B,) int64 in 0..T - 1, where the end of the text is.

        Returns:
            (B, P) float32.
        """
        last = self.final_layer_norm(self.encoder.layers[-1](hidden))
        return self.text_projection(last[torch.arange(len(last)), position])
