"""Stable Diffusion 1.5 and 2.1 folders of the true architecture with random weights, for memory, speed and smoke runs.

    python -m benchmarks.architectures sd15 --output_dir benchmarks/work/sd15

What comes out is a whole diffusers folder (float16, about 2 GB) that every command takes. Its pictures are noise. The
tokenizer is a small one of our own, because CLIP's vocabulary cannot be had without a download; the embedding table
has CLIP's 49,408 rows all the same.
"""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.pocket.text import build_tokenizer

VOCABULARY, LENGTH = 49_408, 77
_UNET = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
_UNET_2 = {"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
           "use_linear_projection": True}  # fmt: skip
_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
         "hidden_act": "quick_gelu"}  # fmt: skip
_TEXT_2 = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
           "hidden_act": "gelu"}  # fmt: skip
# unet, text encoder, prediction type
ARCHITECTURES = {"sd15": (_UNET, _TEXT, "epsilon"), "sd21": (_UNET_2, _TEXT_2, "v_prediction")}


def build(name: str, folder: Path, seed: int = 0) -> None:
    """Save a pipeline; the parts are made in float16 one after the other."""
    unet, text, prediction_type = ARCHITECTURES[name]
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(folder / "tokenizer", LENGTH)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512, scaling_factor=0.18215,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            ),
            text_encoder=CLIPTextModel(CLIPTextConfig(
                vocab_size=VOCABULARY, max_position_embeddings=LENGTH, bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **text,
            )),
            unet=UNet2DConditionModel(block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, **unet),
            tokenizer=tokenizer,
            scheduler=DDIMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type,
            ),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    finally:
        torch.set_default_dtype(default)
    pipeline.save_pretrained(folder, safe_serialization=True)


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
