"""Small random models as a folder and as a single file, by the inverse of what diffusers does to such files."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from edge_sdk.diffusion.vocabulary import write_tokenizer

WORDS = 49408  # of CLIP's vocabulary
FAMILIES = ("1.x", "2.x", "XL", "ssd-1b", "bk-sdm")
_CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
_XL = {
    "block_out_channels": (64, 64, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (1, 1, 2),
    "transformer_layers_per_block": (1, 1, 2),
    "layers_per_block": 2,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 64,
    "cross_attention_dim": 64 + 128,
}
_UNETS: dict[str, dict[str, Any]] = {
    "1.x": {"attention_head_dim": 8, "block_out_channels": (32, 64), "layers_per_block": 2, **_CROSS},
    "2.x": {
        "attention_head_dim": (1, 2),
        "block_out_channels": (64, 128),
        "use_linear_projection": True,
        "layers_per_block": 1,
        **_CROSS,
    },
    "XL": _XL,
    "ssd-1b": _XL
    | {
        "transformer_layers_per_block": [1, [1, 2], [2, 1]],
        "reverse_transformer_layers_per_block": [[1, 1, 2], [2, 1, 1], 1],
        "mid_block_type": "UNetMidBlock2D",
    },
    "bk-sdm": {
        "attention_head_dim": 8,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 1,
        "mid_block_type": None,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    },
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
Tensors = dict[str, torch.Tensor]


def build(folder: Path, family: str, dtype: torch.dtype = torch.float32, **metadata: str) -> tuple[Path, Path]:
    """A folder and the single file of the same weights beside it."""
    torch.manual_seed(0)
    is_xl, of_open_clip = family in ("XL", "ssd-1b"), family == "2.x"
    unet = UNet2DConditionModel(**{"sample_size": 256, "cross_attention_dim": 64, **_UNETS[family]}).to(dtype)
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1 if is_xl else 2,
        scaling_factor=0.13025 if is_xl else 0.18215,
    ).to(dtype)
    first = _text_encoder(64, "gelu" if of_open_clip else "quick_gelu").to(dtype)
    parts: dict[str, Any] = {"unet": unet, "vae": vae, "text_encoder": first}
    file = unet_tensors(unet) | vae_tensors(vae)
    pads = {"tokenizer": "!" if of_open_clip else "<|endoftext|>"}
    if is_xl:
        parts["text_encoder_2"] = second = _text_encoder(128, "gelu", CLIPTextModelWithProjection).to(dtype)
        pads["tokenizer_2"] = "!"
        file |= _within("conditioner.embedders.0.transformer.", clip_tensors(first))
        file |= _within("conditioner.embedders.1.model.", open_clip_tensors(second))
    elif of_open_clip:
        file |= _within("cond_stage_model.model.", open_clip_tensors(first))
    else:
        file |= _within("cond_stage_model.transformer.", clip_tensors(first))
    for name, part in parts.items():
        part.save_pretrained(folder / name, safe_serialization=True)
    for name, pad in pads.items():
        write_tokenizer(folder / name, pad)
    kind = "v_prediction" if of_open_clip else "epsilon"
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER | {"prediction_type": kind}))
    index = {"_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline"}
    index |= {name: ["transformers", type(part).__name__] for name, part in parts.items() if name.startswith("text")}
    (folder / "model_index.json").write_text(json.dumps(index))
    path = folder.with_suffix(".safetensors")
    save_file({name: tensor.contiguous().clone() for name, tensor in file.items()}, path, {"format": "pt", **metadata})
    return folder, path


def _text_encoder(width: int, act: str, kind: type = CLIPTextModel) -> torch.nn.Module:
    config = CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        hidden_act=act,
        projection_dim=64,
    )
    return kind(config)


def unet_tensors(unet: UNet2DConditionModel) -> Tensors:
    """Under the names of the first latent diffusion code."""
    places = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    number = 1
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            places[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{number}.0"
            places[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{number}.1"
            number += 1
        places[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
        number += block.downsamplers is not None
    number = 0
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            places[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{number}.0"
            places[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{number}.1"
            number += 1
        after = 2 if hasattr(block, "attentions") else 1
        places[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{number - 1}.{after}.conv"
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1"}
    inner |= {"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    out = {}
    for name, tensor in unet.state_dict().items():
        old = next(place for place in places if name.startswith(f"{place}."))
        rest = name.removeprefix(f"{old}.")
        if ".resnets." in name:
            layer, _, kind = rest.partition(".")
            rest = f"{inner[layer]}.{kind}"
        out[f"model.diffusion_model.{places[old]}.{rest}"] = tensor
    return out


def vae_tensors(vae: AutoencoderKL) -> Tensors:
    levels, out = len(vae.config.block_out_channels), {}
    for name, tensor in vae.state_dict().items():
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        for old, ldm in (
            ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
            ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
            ("mid_block.attentions.0.to_", "mid.attn_1."),
            ("conv_norm_out", "norm_out"),
            ("conv_shortcut", "nin_shortcut"),
        ):
            new = new.replace(old, ldm)
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", new)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", new)
        if ".attn_1." in new and "norm" not in new and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]  # a 1 x 1 convolution in such files
        out[f"first_stage_model.{new}"] = tensor
    return out


def clip_tensors(model: torch.nn.Module) -> Tensors:
    tensors = {name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in _state(model).items()}
    return tensors | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def open_clip_tensors(model: torch.nn.Module) -> Tensors:
    """Attention's three projections are one matrix there, and the projection of the text is transposed."""
    tensors, out = {name.removeprefix("text_model."): t for name, t in _state(model).items()}, {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"(.*self_attn\.)q_proj\.(weight|bias)", name):
            joined = torch.cat([tensors[f"{match[1]}{part}_proj.{match[2]}"] for part in "qkv"])
            out[_open_clip_name(f"{match[1]}in_proj_{match[2]}")] = joined
        elif name == "text_projection.weight":
            out["text_projection"] = tensor.T
        elif not re.search(r"\.[kv]_proj\.", name):
            out[_open_clip_name(name)] = tensor
    return out | {"logit_scale": torch.tensor(4.6)}


def _open_clip_name(name: str) -> str:
    for old, new in (
        ("embeddings.token_embedding", "token_embedding"),
        ("embeddings.position_embedding.weight", "positional_embedding"),
        ("encoder.layers", "transformer.resblocks"),
        ("final_layer_norm", "ln_final"),
        ("layer_norm", "ln_"),
        ("self_attn", "attn"),
        ("fc1", "c_fc"),
        ("fc2", "c_proj"),
    ):
        name = name.replace(old, new)
    return name


def _state(model: torch.nn.Module) -> Tensors:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("position_ids")}


def _within(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
