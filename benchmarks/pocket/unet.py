"""Train the denoiser of the pocket model on latents and captions, with the VAE and the text encoder frozen.

    python -m benchmarks.pocket.unet --work_dir benchmarks/work --seconds 4200

v-prediction, uniform timesteps, bfloat16 autocast, an exponential moving average of the weights that is what ships.
Stopping the process loses at most ``--save_every`` seconds: the same command goes on from the last checkpoint.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.lib.training import Trainer, stratified_timesteps
from benchmarks.pocket.people import NUM_NAMES, named_people, random_people, render
from benchmarks.pocket.text import Captioner

BATCH = 64
LEARNING_RATE = 1.2e-3
EMA = 0.999
VIEWS_PER_NAME = 16
ANONYMOUS = 65_536
CAPTION_DROPOUT = 0.1


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 160),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


class Pool:
    """Latents of drawn people: 2048 named ones in 16 views each, and anonymous ones.

    Args:
        pictures: makes what the VAE takes of drawings (N, 3, 16, 16).
    """

    def __init__(
        self, vae: AutoencoderKL, seed: int, pictures: Callable[[np.ndarray], torch.Tensor] = torch.from_numpy
    ) -> None:
        rng = np.random.default_rng(seed)
        self.name_ids = np.concatenate([np.repeat(np.arange(NUM_NAMES), VIEWS_PER_NAME), np.full(ANONYMOUS, -1)])
        self.people = np.concatenate([named_people()[self.name_ids[self.name_ids >= 0]], random_people(ANONYMOUS, rng)])
        latents, backgrounds = [], []
        for start in range(0, len(self.people), 2048):
            drawn = render(self.people[start : start + 2048], rng)
            backgrounds.append(drawn.background)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                latents.append(vae.encode(pictures(drawn.pixels)).latent_dist.mean.half())
        self.latents, self.backgrounds = torch.cat(latents), np.concatenate(backgrounds)  # (N, C, h, w)


def v_loss(
    unet: nn.Module, acp: torch.Tensor, x0: torch.Tensor, t: torch.Tensor, noise: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the predicted velocity, in bfloat16 autocast."""
    a, s = acp[t].sqrt()[:, None, None, None], (1 - acp[t]).sqrt()[:, None, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        noisy = (a * x0 + s * noise).contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, t, hidden, return_dict=False)[0]
    return (predicted.float() - (a * noise - s * x0)).pow(2).mean()


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    vae = AutoencoderKL.from_pretrained(args.work_dir / "vae").eval()
    encoder = CLIPTextModel.from_pretrained(args.work_dir / "text_encoder").eval()
    captioner = Captioner(CLIPTokenizer.from_pretrained(args.work_dir / "tokenizer"))
    trainer = Trainer(build_unet(), LEARNING_RATE, EMA)
    acp = build_scheduler().alphas_cumprod
    checkpoint = args.work_dir / "unet_training.safetensors"
    trainer.restore(checkpoint)
    rng = np.random.default_rng([args.seed, trainer.step])
    print(f"{sum(p.numel() for p in trainer.module.parameters()) / 1e6:.2f} M parameters, from step {trainer.step}")
    spent = last_save = trainer.seconds
    pool = Pool(vae, args.seed + trainer.step)
    print(f"pool of {len(pool.latents)} latents", flush=True)
    start, base = time.monotonic(), spent
    while (done := spent / args.seconds) < 1:
        index = rng.integers(len(pool.latents), size=BATCH)
        ids, _ = captioner.sample(pool.people[index], pool.backgrounds[index], pool.name_ids[index], rng)
        ids[rng.random(BATCH) < CAPTION_DROPOUT] = captioner.encode("")
        x0 = pool.latents[torch.from_numpy(index)].float()
        t = stratified_timesteps(BATCH, 1000, rng)
        noise = torch.randn_like(x0)
        with torch.no_grad():
            hidden = encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
        trainer.descend(v_loss(trainer.module, acp, x0, t, noise, hidden), done, args.decay)
        spent = base + time.monotonic() - start
        if trainer.step % 100 == 0:
            about = f"samples {trainer.step * BATCH} seconds {spent:.0f} loss {trainer.running:.4f}"
            print(f"unet step {trainer.step} {about}", flush=True)
        if spent - last_save > args.save_every or spent >= args.seconds:
            last_save = spent
            trainer.save(checkpoint, spent)
            shipped = build_unet()
            shipped.load_state_dict(trainer.average)
            shipped.save_pretrained(args.work_dir / "unet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--seconds", type=float, default=4200, help="training time in all, over restarts")
    parser.add_argument("--decay", type=float, default=0.3, help="share of the time over which the rate falls to 0")
    parser.add_argument("--save_every", type=float, default=180, help="seconds between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
