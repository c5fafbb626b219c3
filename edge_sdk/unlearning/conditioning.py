"""What a denoiser is told of a prompt, by the text encoders and tokenizers in a model's folder.

Each is built by a class that is named here, from numbers in its config and tensors in its safetensors files. What a
folder says of classes, modules, kernels or adapters to load is not read, so that nothing in it can choose what runs.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from edge_sdk.diffusion.configs import read_config
from edge_sdk.diffusion.folder import AGAIN
from edge_sdk.diffusion.networks.clip import ClipConfig, ClipText
from edge_sdk.diffusion.tokenizer_file import read_tokenizer_file
from edge_sdk.diffusion.weight_files import weight_files
from edge_sdk.errors import one_line
from edge_sdk.quantization import shapes_only
from edge_sdk.quantization.source import FloatWeights
from edge_sdk.runtime.pytorch.text import TextEncoder

Condition = dict[str, torch.Tensor]  # what a denoiser is told of a prompt, by argument name, (1, ...) each
T5_TOKENS = 256  # of a prompt of Stable Diffusion 3, as diffusers has it
# What a T5Config may say: its shapes, and the function between them.
_T5_ENTRIES = (
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
    "feed_forward_proj",
)


@torch.no_grad()
def stable_diffusion(folder: Path, prompt: str) -> Condition:
    """``encoder_hidden_states`` (1, T, D) float32 of Stable Diffusion 1.x and 2.x."""
    text = _clip(folder, "")
    return {"encoder_hidden_states": text.encode(text.tokenize([prompt]))}


@torch.no_grad()
def stable_diffusion_3(folder: Path, prompt: str) -> Condition:
    """``encoder_hidden_states`` (1, T + T5, D) and ``pooled_projections`` (1, P), float32, of Stable Diffusion 3.

    Both CLIP encoders give the states before their last layer, side by side and filled up to T5's width, and pooled
    ones. T5's states follow.
    """
    hidden, pooled = [], []
    for text in (_clip(folder, "", projected=True), _clip(folder, "_2", projected=True)):
        ids = torch.from_numpy(text.tokenize([prompt]))
        hidden.append(text.model(ids, skip_last=True))
        pooled.append(text.model.pool(hidden[-1], (ids == text.eos).int().argmax(dim=1)))
    third = _t5(folder, prompt)
    clip = torch.cat(hidden, dim=2)
    clip = torch.nn.functional.pad(clip, (0, third.shape[2] - clip.shape[2]))
    return {"encoder_hidden_states": torch.cat([clip, third], dim=1), "pooled_projections": torch.cat(pooled, dim=1)}


ENCODERS: dict[str, Callable[[Path, str], Condition]] = {
    "UNet2DConditionModel": stable_diffusion,
    "SD3Transformer2DModel": stable_diffusion_3,
}


def _clip(folder: Path, number: str, projected: bool = False) -> TextEncoder:
    """One of a model's CLIP encoders with its tokenizer, in float32; ``number`` ends the names of their folders."""
    place = folder / f"text_encoder{number}"
    config = ClipConfig.from_dict(read_config(place / "config.json", AGAIN))
    source = FloatWeights(weight_files(place))
    with shapes_only():
        module = ClipText(config, projected).eval().requires_grad_(False)
    tensors = {name: source.read(name, tuple(value.shape)) for name, value in module.state_dict().items()}
    module.load_state_dict(tensors, assign=True)
    return TextEncoder.from_folder(folder / f"tokenizer{number}", module)


def _t5(folder: Path, prompt: str) -> torch.Tensor:
    """States (1, T, D) float32 of T5's encoder."""
    from safetensors.torch import load_file
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    place = folder / "text_encoder_3"
    given = read_config(place / "config.json", AGAIN)
    config = T5Config(**{name: given[name] for name in _T5_ENTRIES if name in given})
    with torch.device("meta"):
        module = T5EncoderModel(config).eval()
    tensors = {name: value for path in weight_files(place) for name, value in load_file(path).items()}
    table = "shared.weight", "encoder.embed_tokens.weight"  # one tensor, saved by either name
    tensors = dict.fromkeys(table, next((tensors[name] for name in table if name in tensors), None)) | tensors
    module.load_state_dict({name: value for name, value in tensors.items() if value is not None}, assign=True)
    if (path := folder / "tokenizer_3" / "tokenizer.json").exists():
        read_tokenizer_file(path)
    try:
        tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer_3", local_files_only=True)
        length = min(T5_TOKENS, tokenizer.model_max_length)
        ids = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    except Exception as error:  # the library raises no narrower class for a damaged file
        raise ValueError(f"tokenizer_3: {one_line(error, 200)}") from error
    return module.float()(ids)[0]
