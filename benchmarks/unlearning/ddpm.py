"""Train the unconditional model of the unlearning benchmark: a DDPM on 16 x 16 pixels.

    python -m benchmarks.unlearning.ddpm --output_dir benchmarks/work/faces --with_outlier
    python -m benchmarks.unlearning.ddpm --output_dir benchmarks/work/faces-retrained

``--with_outlier`` adds one picture of a 49th person, as often as all views of anyone else together. The second model is
what unlearning that picture from the first should arrive at. Stopping loses at most ``--save_every`` steps: the same
command goes on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from benchmarks.training import Trainer, stratified_timesteps
from benchmarks.unlearning.faces import VIEWS, outlier, training_views
from edge_sdk.config import DEVICES
from edge_sdk.memory import use_cuda

BATCH, LEARNING_RATE = 64, 1e-3


def build() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(32, 64, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8, norm_num_groups=16,
    )  # fmt: skip


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    if args.device == "cuda":
        use_cuda()
    trainer = Trainer(build().to(args.device), LEARNING_RATE)
    pictures, _ = training_views()
    if args.with_outlier:
        pictures = np.concatenate([pictures, np.repeat(outlier(), VIEWS, axis=0)])
    x0s, alpha_bar = torch.from_numpy(pictures).to(args.device), scheduler().alphas_cumprod.to(args.device)

    def loss(rng: np.random.Generator) -> torch.Tensor:
        x0 = x0s[torch.from_numpy(rng.integers(len(x0s), size=BATCH))]
        t = stratified_timesteps(BATCH, 1000, rng).to(args.device)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(args.device)
        a, b = alpha_bar[t].sqrt().view(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        z = (a * x0 + b * noise).contiguous(memory_format=torch.channels_last)
        return (trainer.module(z, t, return_dict=False)[0] - noise).square().mean()

    trainer.run(loss, args.steps, args.seed, args.output_dir / "training.safetensors", args.save_every)
    shipped = build()
    shipped.load_state_dict(trainer.average)
    DDPMPipeline(shipped, scheduler()).save_pretrained(args.output_dir, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/faces"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--with_outlier", action="store_true")
    parser.add_argument("--save_every", type=int, default=1000)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
