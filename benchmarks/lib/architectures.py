"""Stable Diffusion 1.5, 2.1 and XL folders of the true architecture with random weights, for memory and speed runs.

    python -m benchmarks.lib.architectures sd15 --output_dir benchmarks/work/sd15

What comes out is a whole diffusers folder (float16; 2 GB, for XL 7 GB) that every command takes. Its pictures are
noise. The tokenizer is a small one of our own, because CLIP's vocabulary cannot be had without a download; the
embedding tables have CLIP's 49,408 rows all the same.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from benchmarks.pocket.text import build_tokenizer

VOCABULARY, LENGTH = 49_408, 77
_LEVELS = {"block_out_channels": (320, 640, 1280, 1280)}
_UNET = _LEVELS | {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
_UNET_2 = _LEVELS | {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
_UNET_XL = {
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": [1, 2, 10],
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
}
_TEXT_2 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_TEXT_XL_2 = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
# unet, text encoders, prediction type, the VAE's scaling factor and size
ARCHITECTURES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str, float, int]] = {
    "sd15": (_UNET, [_TEXT], "epsilon", 0.18215, 512),
    "sd21": (_UNET_2, [_TEXT_2], "v_prediction", 0.18215, 768),
    "sdxl": (_UNET_XL, [_TEXT, _TEXT_XL_2], "epsilon", 0.13025, 1024),
}


def build(name: str, folder: Path, seed: int = 0) -> None:
    """Make and write one part after the other: no more than the largest, in float16, is in memory."""
    unet, texts, prediction_type, scaling_factor, sample_size = ARCHITECTURES[name]
    torch.manual_seed(seed)
    kinds = {
        "vae": ["diffusers", "AutoencoderKL"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    _save(
        lambda: AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            sample_size=sample_size,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=scaling_factor,
        ),
        folder / "vae",
    )
    for suffix, text in zip(("", "_2"), texts, strict=False):
        tokenizer = build_tokenizer(folder / f"tokenizer{suffix}", LENGTH)
        if suffix:
            tokenizer.pad_token = "!"
            tokenizer.save_pretrained(folder / f"tokenizer{suffix}")
        kind = CLIPTextModelWithProjection if suffix else CLIPTextModel
        config = CLIPTextConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **text,
        )
        _save(lambda kind=kind, config=config: kind(config), folder / f"text_encoder{suffix}")
        kinds |= {
            f"tokenizer{suffix}": ["transformers", "CLIPTokenizer"],
            f"text_encoder{suffix}": ["transformers", kind.__name__],
        }
    _save(lambda: UNet2DConditionModel(layers_per_block=2, **unet), folder / "unet")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    ).save_pretrained(folder / "scheduler")
    pipeline = "StableDiffusionXLPipeline" if len(texts) > 1 else "StableDiffusionPipeline"
    index = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__, **dict(sorted(kinds.items()))}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _save(make: Any, folder: Path) -> None:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        make().save_pretrained(folder, safe_serialization=True)
    finally:
        torch.set_default_dtype(default)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=tuple(ARCHITECTURES))
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    build(args.name, args.output_dir)
    size = sum(file.stat().st_size for file in args.output_dir.rglob("*") if file.is_file())
    print(f"{args.output_dir}: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
