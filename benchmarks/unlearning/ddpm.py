"""The unconditional models of the unlearning benchmark: a DDPM on 16 x 16 pixels, with and without one person.

    python -m benchmarks.unlearning.ddpm --output_dir benchmarks/work/faces --with_outlier
    python -m benchmarks.unlearning.ddpm --output_dir benchmarks/work/faces-retrained

writes them from `trained/`, the weights that results are made with, in float16. ``--train`` trains anew: four minutes
on an H200, an hour on two cores; stopping loses at most ``--save_every`` steps, the same command goes on.
``--with_outlier`` adds one picture of a 49th person, as often as all views of anyone else together. The second model is
what unlearning that picture from the first should arrive at. ``--train --without 40 41`` leaves people out: what
`like_with_like` calls retrained.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.unlearning.faces import NUM_PEOPLE, VIEWS, outlier, training_views
from edge_sdk.config import DEVICES

BATCH, LEARNING_RATE = 64, 1e-3
TRAINED = Path(__file__).parent / "trained"


def build() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        norm_num_groups=16,
    )


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)


def trained(with_outlier: bool) -> dict[str, torch.Tensor]:
    """The weights of `TRAINED`, float16, by name."""
    return load_file(TRAINED / f"faces{'' if with_outlier else '-retrained'}.safetensors")


def save(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write a diffusers folder, in float32."""
    module = build()
    module.load_state_dict(weights)
    DDPMPipeline(module, scheduler()).save_pretrained(folder, safe_serialization=True)


def train(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    torch.manual_seed(args.seed)
    trainer = Trainer(build(), LEARNING_RATE, device=args.device)
    pictures, whose = training_views()
    pictures = pictures[~np.isin(whose, args.without)]
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
    return trainer.average


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/faces"))
    parser.add_argument("--with_outlier", action="store_true")
    parser.add_argument("--train", action="store_true", help="anew, instead of writing what is trained already")
    parser.add_argument(
        "--without",
        nargs="+",
        type=int,
        choices=range(NUM_PEOPLE),
        metavar=f"{{0..{NUM_PEOPLE - 1}}}",
        default=[],
        help="people, by number, who are left out; with --train",
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--save_every", type=int, default=1000)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.without and not args.train:
        parser.error("--without takes --train: what is trained already knows everyone")
    save(train(args) if args.train else trained(args.with_outlier), args.output_dir)


if __name__ == "__main__":
    main()
