"""Small random models with the architecture of Stable Diffusion 1.x, 2.x, XL and 3 and of DDPM, as diffusers saves."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, StableDiffusion3Pipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel, UNet2DModel
from diffusers.schedulers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

WORDS = "a photo of the dog cat mug person rendering cropped clean dirty dark my cool close up bright good one picture"

FAMILIES = ("sd1", "sd2", "sdxl")
SMALL = ("bk-sdm-small", "bk-sdm-tiny", "tiny-sd", "ssd-1b", "vega", "lists", "only-cross")  # as phones have them
OF_SDXL = ("sdxl", "ssd-1b", "vega")
WIDTHS_XL = (32, 48)  # of SDXL's two text encoders
_XL_TEXT = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}


def _levels(kinds: str) -> dict[str, Any]:
    """Levels of a denoiser, "C" with attention to the text and "D" without, the largest picture first."""
    name = {"C": "CrossAttn", "D": ""}
    return {
        "block_out_channels": (32, 32, 64, 64)[-len(kinds) :],
        "down_block_types": [f"{name[kind]}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{name[kind]}UpBlock2D" for kind in reversed(kinds)],
    }


_XL = _levels("DCC") | _XL_TEXT | {"layers_per_block": 2, "attention_head_dim": [2, 4, 8]}
_UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"attention_head_dim": 4},
    "sd2": {"attention_head_dim": [2, 4], "use_linear_projection": True},
    "sdxl": _XL_TEXT | {"attention_head_dim": [2, 4], "transformer_layers_per_block": [1, 2]},
    "bk-sdm-small": _levels("CCCD") | {"attention_head_dim": 4, "mid_block_type": None},
    "bk-sdm-tiny": _levels("CCC") | {"attention_head_dim": 4, "mid_block_type": None},
    "tiny-sd": _levels("DC") | {"attention_head_dim": 2, "mid_block_type": None, "use_linear_projection": True},
    "ssd-1b": _XL
    | {
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [0, [2, 2], [1, 2]],
        "reverse_transformer_layers_per_block": [[1, 2, 3], [2, 1, 1], 1],
    },
    "vega": _XL
    | {
        "layers_per_block": [2, 1, 2],
        "transformer_layers_per_block": [0, [1], [2, 1]],
        "reverse_transformer_layers_per_block": [[1, 1, 2], 2, 0],
    },
    "lists": _levels("CDC")
    | {
        "layers_per_block": [1, 2, 1],
        "attention_head_dim": [2, 4, 8],
        "cross_attention_dim": [32, 32, 32],
        "transformer_layers_per_block": [2, 1, 1],
        "only_cross_attention": [True, False, False],
    },
    "only-cross": _levels("CC")
    | {
        "attention_head_dim": 4,
        "only_cross_attention": True,
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [0, 1],
    },
}


def build_tokenizer(folder: Path, length: int = 24, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz0123456789<>,.-'" for end in ("", "</w>")]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        end_of_word_suffix="</w>",
        show_progress=False,
        special_tokens=[*letters, "<|startoftext|>", "<|endoftext|>"],
    )
    tokenizer.train_from_iterator([WORDS] * 30, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.model.save(str(folder))
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=length,
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token=pad,
    )


def build_unet(family: str = "sd1", width: int | None = None) -> UNet2DConditionModel:
    entries: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": width or (sum(WIDTHS_XL) if family in OF_SDXL else 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return UNet2DConditionModel(**entries | _UNETS[family])


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=16,
        scaling_factor=0.2,
    )


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 32, kind: type = CLIPTextModel) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=24,
    )
    return kind(config)


def build(folder: Path, family: str = "sd1", seed: int = 0, width: int = WIDTHS_XL[0]) -> Path:
    """Save a whole pipeline: "sd2" predicts v and projects linearly, those like "sdxl" have two text encoders.

    Args:
        width: of tokens, where there is one text encoder.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(folder / "tokenizer")
    table = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    scheduler = (
        PNDMScheduler(**table, skip_prk_steps=True)
        if family == "sd1"
        else DDIMScheduler(
            **table,
            clip_sample=False,
            set_alpha_to_one=False,
            prediction_type="v_prediction" if family == "sd2" else "epsilon",
        )
    )
    shared = {
        "vae": build_vae(),
        "text_encoder": build_text_encoder(tokenizer, width),
        "tokenizer": tokenizer,
        "unet": build_unet(family, None if family in OF_SDXL else width),
        "scheduler": scheduler,
        "feature_extractor": None,
    }
    if family in OF_SDXL:
        second = build_tokenizer(folder / "tokenizer_2", pad="-")
        encoder = build_text_encoder(second, WIDTHS_XL[1], CLIPTextModelWithProjection)
        encoder.get_input_embeddings().weight.data *= 0.5  # the published tables are not of one scale either
        pipeline: Any = StableDiffusionXLPipeline(**shared, text_encoder_2=encoder, tokenizer_2=second)
    else:
        pipeline = StableDiffusionPipeline(**shared, safety_checker=None, requires_safety_checker=False)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def build_ddpm(folder: Path, flat: bool = False, seed: int = 0) -> Path:
    """Save an unconditional pipeline on pixels; ``flat`` without subfolders, as the first ones were published."""
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    if flat:
        unet.save_pretrained(folder, safe_serialization=True)
        DDPMScheduler().save_config(folder)
    else:
        DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder, safe_serialization=True)
    return folder


def build_sd3(folder: Path, seed: int = 0) -> Path:
    """Save a pipeline of Stable Diffusion 3: a flow, two CLIP encoders with projections and one of T5."""
    torch.manual_seed(seed)
    tokenizers_ = [build_tokenizer(folder / "parts" / name) for name in ("tokenizer", "tokenizer_2")]
    encoders = [
        build_text_encoder(tokenizer, width, CLIPTextModelWithProjection)
        for tokenizer, width in zip(tokenizers_, WIDTHS_XL, strict=True)
    ]
    words = ["<pad>", "</s>", "<unk>", "\u2581", "\u2581person"]
    third = T5TokenizerFast(vocab=[(word, -float(i)) for i, word in enumerate(words)], extra_ids=0)
    t5 = T5Config(vocab_size=len(third), d_model=80, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=80,
        caption_projection_dim=32,
        pooled_projection_dim=48,
        pos_embed_max_size=8,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=build_vae(),
        text_encoder=encoders[0],
        tokenizer=tokenizers_[0],
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizers_[1],
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=third,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
