"""A model with tokens of 768 numbers in minutes: a wide text encoder that says what the embedded model's says.

    python -m benchmarks.quality.distilled --output_dir benchmarks/work/distilled

`benchmarks.quality.wide` trains every part anew, over an hour of one core. Here the denoiser and the VAE are the
embedded model's. A text encoder of 768 numbers a token, table included, is trained from random weights until a linear
map of its states is the embedded encoder's states. The denoiser's cross-attention takes up the map. So people,
pictures and prompts stay, and what a token of 768 numbers means is new.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.pocket.people import BACKGROUNDS, NUM_NAMES, named_people, names, random_people
from benchmarks.pocket.text import Captioner
from benchmarks.pocket.unet import build_scheduler
from edge_sdk import pocket

WIDTH = 768  # of a token
DESCRIBED, NAMED, SHORT = 24, 96, 9  # captions of a batch; tokens of the named ones that are looked at
RATE, WARM_UP = 1.5e-3, 20


def build_text_encoder(like: CLIPTextConfig) -> CLIPTextModel:
    """Untrained, with the tokenizer of another."""
    own = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": WIDTH // 64}
    return CLIPTextModel(CLIPTextConfig.from_dict(like.to_dict() | own | {"projection_dim": WIDTH}))


def captions(captioner: Captioner, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of descriptions (DESCRIBED, T), and of names (NAMED, SHORT), cut: states look back only."""
    name_ids = np.where(rng.random(DESCRIBED) < 0.3, rng.integers(NUM_NAMES, size=DESCRIBED), -1)
    people = np.where(name_ids[:, None] >= 0, named_people()[name_ids], random_people(DESCRIBED, rng))
    described, _ = captioner.sample(people, rng.integers(len(BACKGROUNDS), size=DESCRIBED), name_ids, rng)
    named = [captioner.encode(f"a picture of {names()[i]}")[:SHORT] for i in rng.integers(NUM_NAMES, size=NAMED)]
    return torch.from_numpy(described), torch.tensor(named)


def train(teacher: CLIPTextModel, captioner: Captioner, steps: int, seed: int) -> tuple[CLIPTextModel, torch.Tensor]:
    """A wide text encoder, and the map (D, 768) from its states to the teacher's."""
    torch.manual_seed(seed)
    student = build_text_encoder(teacher.config)
    reading = nn.Linear(WIDTH, teacher.config.hidden_size, bias=False)
    optimizer = torch.optim.AdamW([*student.parameters(), *reading.parameters()], RATE, (0.9, 0.98), fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (0.02 + 0.49 * (1 + np.cos(np.pi * step / steps)))
        loss = torch.zeros(())
        for ids in captions(captioner, np.random.default_rng([seed, step])):
            with torch.no_grad():
                target = teacher(input_ids=ids).last_hidden_state
            with torch.autocast("cpu", torch.bfloat16):
                states = reading(student(input_ids=ids).last_hidden_state)
            loss = loss + (states.float() - target)[:, 1:].square().mean() / target[:, 1:].var() / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step}: {loss.item():.4f} of the states' variance is missed", flush=True)
    return student.eval(), reading.weight.detach()


def widened(unet: UNet2DConditionModel, reading: torch.Tensor) -> UNet2DConditionModel:
    """A denoiser that looks at states of 768 numbers through a map (D, 768)."""
    weights = unet.state_dict()
    for name in [name for name in weights if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]:
        weights[name] = weights[name] @ reading
    wide = UNet2DConditionModel.from_config({**unet.config, "cross_attention_dim": WIDTH})
    wide.load_state_dict(weights)
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.distilled", description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/distilled"))
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    teacher = CLIPTextModel.from_pretrained(pocket.MODEL / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(pocket.MODEL / "tokenizer")
    student, reading = train(teacher, Captioner(tokenizer), args.steps, args.seed)
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(pocket.MODEL / "vae"),
        text_encoder=student,
        tokenizer=tokenizer,
        unet=widened(UNet2DConditionModel.from_pretrained(pocket.MODEL / "unet"), reading),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(args.output_dir, safe_serialization=True)


if __name__ == "__main__":
    main()
