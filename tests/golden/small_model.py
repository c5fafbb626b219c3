"""The model of the golden bundle: Stable Diffusion 1.x in small, random weights, a byte-level vocabulary."""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from transformers import CLIPTextConfig, CLIPTextModel

from edge_sdk.tokenizer import BEGIN, END

LENGTH, WIDTH, SIDE = 16, 32, 8  # tokens of a prompt, width of a token, pixels of a picture's side
WORDS = (
    "a the of photo picture rendering painting dog cat mug person clean dark cropped style in my one good cool small "
    "bright close up it is don can we you 's 't 'll 're n't caf\u00e9 na\u00efve \u96ea \u0434\u043e\u043c \U0001f642"
).split()


def bytes_to_letters() -> list[str]:
    """GPT-2's visible letter for each byte (its `bytes_to_unicode`)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens with their ids, and merges: every word of `WORDS` is built letter by letter, and becomes one token."""
    letters = bytes_to_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [letters[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        first = pieces[0]
        for piece in pieces[1:]:
            if (first, piece) not in merges:
                merges.append((first, piece))
            first += piece
    tokens += dict.fromkeys(a + b for a, b in merges)
    return {token: i for i, token in enumerate([*tokens, BEGIN, END])}, merges


def build_tokenizer(folder: Path) -> dict[str, int]:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``; returns the vocabulary."""
    tokens, merges = vocabulary()
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokens


def build(folder: Path) -> Path:
    """Save the float model as diffusers does, but for the tokenizer, which is written here."""
    torch.manual_seed(0)
    tokens = build_tokenizer(folder / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokens[BEGIN],
        eos_token_id=tokens[END],
        pad_token_id=tokens[END],
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(4,),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        sample_size=SIDE,
        scaling_factor=0.5,
    )
    encoder = CLIPTextModel(text)
    with torch.no_grad():  # so that the prompt matters
        for name, weight in unet.named_parameters():
            if "attn2" in name and name.endswith("weight"):
                weight *= 4
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=None,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
