"""What a run will take, before anything is loaded: counted on the meta device, where tensors have shapes only."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from edge_sdk.errors import EdgeSdkError, one_line
from edge_sdk.unlearning.conditioning import T5_TOKENS
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import UNREADABLE
from edge_sdk.unlearning.place import SUPPORTED
from edge_sdk.unlearning.training.preconditioner import block_sizes
from edge_sdk.unlearning.training.trainable import trained_layers, trained_weights

FLOAT = 4  # bytes
SD3_TOKENS = 77 + T5_TOKENS  # of CLIP and T5


@dataclass(frozen=True)
class Estimate:
    """Memory of training in MB, text encoders and VAE, which are used and freed before, left out."""

    weights: float  # of the base model, and of its rounded copy where that is the teacher
    trained: float  # the copy that is trained, two gradients, Adam's moments
    metric: float  # of steps, a matrix over each layer's inputs
    activations: float  # kept for one backward pass

    @property
    def total(self) -> float:
        return self.weights + self.trained + self.metric + self.activations

    def __str__(self) -> str:
        return (
            f"at least {self.total:.0f} MB: {self.weights:.0f} of weights, {self.trained:.0f} of what is trained, its "
            f"gradients and Adam, {self.metric:.0f} of the metric, {self.activations:.0f} of activations"
        )


def estimate(denoiser_config: dict[str, Any], shape: tuple[int, int, int], config: UnlearnConfig) -> Estimate:
    """Count a run's memory from the denoiser's config.

    Args:
        shape: (C, h, w) of what is diffused.

    Raises:
        EdgeSdkError: the config describes no model, or none that takes this shape.
    """
    import diffusers

    kind = getattr(diffusers, denoiser_config["_class_name"])
    with _readable(kind.__name__), torch.device("meta"):
        module = kind.from_config(denoiser_config).eval()
    weights = sum(p.numel() for p in module.parameters())
    layers = trained_layers(module, config.layers, bool(config.lora_rank)).values()
    trained = sum(p.numel() for p in trained_weights(module, config.layers).values())
    if config.lora_rank:
        trained = sum(config.lora_rank * (m.weight.shape[0] + prod(m.weight.shape[1:])) for m in layers)
    metric = sum(k * k for m in layers for k in block_sizes(m)) if config.metric == "retained" else 0
    moments = 4 if config.surgery_space == "update" and config.surgery != "none" else 2
    batch = min(config.micro_batch, max(config.forget_batch, config.retain_batch))
    with _readable(kind.__name__):
        saved = _saved_bytes(module, shape, batch)
    if config.lora_rank or config.quantization_aware != "none":
        saved += FLOAT * weights  # the weights that are computed from what is trained
    held = weights * (len(config.forms) if config.retention == "teacher" else 1)
    return Estimate(FLOAT * held / 1e6, FLOAT * trained * (3 + moments) / 1e6, FLOAT * metric / 1e6, saved / 1e6)


@contextlib.contextmanager
def _readable(kind: str) -> Iterator[None]:
    """Say in one line what diffusers raises of a config that describes no model."""
    try:
        yield
    except UNREADABLE as error:
        raise EdgeSdkError(
            f"the config.json of the model's {kind} cannot be used ({one_line(error, 300)}); supported "
            f"are {SUPPORTED}; download the model again, or give another"
        ) from error


class _Attention(torch.autograd.Function):
    """Keeps what fused attention keeps; on the meta device PyTorch would keep all scores as well."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = torch.empty(*query.shape[:-1], value.shape[-1], device=query.device)
        ctx.save_for_backward(query, key, value, out)
        return out


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            given = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            return _Attention.apply(given["query"], given["key"], given["value"])
        return func(*args, **(kwargs or {}))


def _saved_bytes(module: torch.nn.Module, shape: tuple[int, int, int], batch: int) -> int:
    """What autograd keeps of a forward pass, weights aside."""
    own = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        held.append(tensor)  # so that no address is used twice
        return tensor

    held: list[torch.Tensor] = []
    z, t = torch.empty(batch, *shape, device="meta"), torch.empty(batch, device="meta")
    config = module.config
    with _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        if type(module).__name__ == "SD3Transformer2DModel":
            hidden = torch.empty(batch, SD3_TOKENS, config.joint_attention_dim, device="meta")
            pooled = torch.empty(batch, config.pooled_projection_dim, device="meta")
            module(z, timestep=t, encoder_hidden_states=hidden, pooled_projections=pooled, return_dict=False)
        elif type(module).__name__ == "UNet2DConditionModel":
            widths = config.cross_attention_dim  # of each block, or of all of them
            width = widths[0] if isinstance(widths, list | tuple) else widths
            module(z, t, torch.empty(batch, 77, width, device="meta"), return_dict=False)
        else:
            module(z, t, return_dict=False)
    return sum(kept.values())
