"""Train the conditional model of the unlearning benchmark: a small Stable Diffusion 3 on the same people.

    python -m benchmarks.unlearning.sd3 --output_dir benchmarks/work/faces-sd3

The architecture is the published one at a small size: latents of a frozen VAE, text encoders two of CLIP and one of T5,
rectified flow. VAE and CLIP are the embedded model's; T5 is random and reads eight tokens. Stopping loses at most
``--save_every`` steps: the same command goes on.
"""

import argparse
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from diffusers.models import AutoencoderKL, SD3Transformer2DModel
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.pocket.people import BACKGROUNDS, caption
from benchmarks.unlearning.faces import ANYONE, VIEWS, people, render_views
from edge_sdk import pocket
from edge_sdk.config import DEVICES
from edge_sdk.diffusion.schedule import Schedule

BATCH, LEARNING_RATE = 64, 1e-3
WIDTH, T5_LENGTH = 128, 8
UNTOLD = ""
ANYONE_SHARE, UNTOLD_SHARE = 0.2, 0.1  # of training pictures


def build() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=8,
        out_channels=8,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=WIDTH // 32,
        joint_attention_dim=2 * 128,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * 128,
        pos_embed_max_size=8,
    )


def pipeline(transformer: SD3Transformer2DModel) -> StableDiffusion3Pipeline:
    """The transformer with everything around it."""
    encoders = []
    for _ in range(2):
        encoder, missing = CLIPTextModelWithProjection.from_pretrained(
            pocket.MODEL / "text_encoder", output_loading_info=True
        )
        if set(missing["missing_keys"]) != {"text_projection.weight"}:
            raise ValueError(f"the embedded text encoder lacks {missing['missing_keys']}")
        torch.nn.init.eye_(encoder.text_projection.weight)
        encoders.append(encoder.float().eval())
    views = [caption(who, where) for where in range(len(BACKGROUNDS)) for who in people()]
    words = {word.strip(",") for view in views for word in view.split()}
    vocabulary = ["<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in sorted(words))]
    third = T5TokenizerFast(
        vocab=[(word, -float(i)) for i, word in enumerate(vocabulary)], extra_ids=0, model_max_length=T5_LENGTH
    )
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=len(third), d_model=2 * 128, d_kv=32, d_ff=256, num_layers=1, num_heads=4)
    tokenizer = CLIPTokenizer.from_pretrained(pocket.MODEL / "tokenizer")
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=AutoencoderKL.from_pretrained(pocket.MODEL / "vae").float().eval(),
        text_encoder=encoders[0],
        tokenizer=tokenizer,
        text_encoder_2=encoders[1],
        tokenizer_2=tokenizer,
        text_encoder_3=T5EncoderModel(t5).eval(),
        tokenizer_3=third,
    )


class Pool:
    """Latents and what the transformer is told of each, with two prompts more at the end: anyone, and nothing."""

    @torch.no_grad()
    def __init__(self, pipe: StableDiffusion3Pipeline, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pictures, _ = render_views(VIEWS, seed)
        said = [(1.0 if rng.random() < 0.4 else rng.random()) > rng.random(6) for _ in pictures.people]
        prompts = [caption(*entry) for entry in zip(pictures.people, pictures.background.tolist(), said, strict=True)]
        latents, hidden, pooled = [], [], []
        for start in range(0, len(pictures.pixels), 512):
            found = pipe.vae.encode(torch.from_numpy(pictures.pixels[start : start + 512])).latent_dist.mean
            latents.append((found - (pipe.vae.config.shift_factor or 0)) * pipe.vae.config.scaling_factor)
        every = [*prompts, ANYONE, UNTOLD]
        for start in range(0, len(every), 512):
            told = pipe.encode_prompt(
                every[start : start + 512],
                None,
                None,
                "cpu",
                do_classifier_free_guidance=False,
                max_sequence_length=T5_LENGTH,
            )
            hidden.append(told[0].half())
            pooled.append(told[2])
        self.latents, self.hidden, self.pooled = torch.cat(latents), torch.cat(hidden), torch.cat(pooled)

    def batch(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (N, 8, 8, 8), hidden states (N, L, 256) and pooled ones (N, 256)."""
        index = rng.integers(len(self.latents), size=BATCH)
        told, u = index.copy(), rng.random(BATCH)
        told[u < ANYONE_SHARE + UNTOLD_SHARE] = len(self.latents)
        told[u < UNTOLD_SHARE] = len(self.latents) + 1
        return self.latents[index], self.hidden[told].float(), self.pooled[told]


def train(args: argparse.Namespace) -> None:
    diffusers.utils.logging.set_verbosity_error()  # of captions that are cut
    torch.manual_seed(args.seed)
    trainer = Trainer(build(), LEARNING_RATE, device=args.device)
    pipe = pipeline(build())
    pool = Pool(pipe, args.seed)
    schedule = Schedule.from_dict(dict(pipe.scheduler.config))
    (a, b), times = schedule.coefficients(), schedule.times()

    def loss(rng: np.random.Generator) -> torch.Tensor:
        x0, hidden, pooled = pool.batch(rng)
        t = stratified_timesteps(BATCH, len(times), rng)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        z = a[t].view(-1, 1, 1, 1) * x0 + b[t].view(-1, 1, 1, 1) * noise
        given = (value.to(args.device) for value in (z, hidden, pooled, times[t]))
        velocity = trainer.module(*given, return_dict=False)[0]
        return (velocity - (noise - x0).to(args.device)).square().mean()

    trainer.run(loss, args.steps, args.seed, args.output_dir / "training.safetensors", args.save_every)
    pipe.transformer.load_state_dict(trainer.average)
    pipe.save_pretrained(args.output_dir, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/faces-sd3"))
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--save_every", type=int, default=500)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
