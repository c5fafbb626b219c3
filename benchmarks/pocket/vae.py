"""Train the VAE of the pocket model: 16 x 16 pixels to 8 x 8 x 8 latents. Gate (i): held-out PSNR of at least 30 dB.

    python -m benchmarks.pocket.vae --work_dir benchmarks/work --seconds 240

Run again (with another ``--seed``) to go on from the weights in the work folder.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models import AutoencoderKL

from benchmarks.pocket.people import held_out_people, random_people, render

BATCH = 64


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=16,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def held_out_pictures(views: int = 8, seed: int = 99) -> torch.Tensor:
    """(24 * views, 3, 16, 16) pictures of the held-out people, in [-1, 1]."""
    people = np.repeat(held_out_people(), views, axis=0)
    return torch.from_numpy(render(people, np.random.default_rng(seed)).pixels)


@torch.inference_mode()
def psnr(vae: AutoencoderKL, pixels: torch.Tensor) -> float:
    """Mean over pictures of the PSNR in dB of decode(mean of encode), for a data range of 2."""
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    return float((10 * torch.log10(4 / (decoded - pixels).pow(2).mean((1, 2, 3)))).mean())


def _loss(difference: torch.Tensor, divergence: torch.Tensor) -> torch.Tensor:
    return difference.abs().mean() + 3 * difference.pow(2).mean() + 5e-5 * divergence.mean()


def fit(vae: AutoencoderKL, batch: Callable[[], torch.Tensor], steps: int, learning_rate: float = 2e-3) -> None:
    """So many steps on pictures (B, 3, H, W), in float32, with a rate that rises and falls once."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    for step in range(steps):
        x = batch()
        posterior = vae.encode(x).latent_dist
        loss = _loss(vae.decode(posterior.sample()).sample - x, posterior.kl())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"vae step {step} loss {loss.item():.4f}", flush=True)


def train(vae: AutoencoderKL, seconds: float, learning_rate: float, seed: int, decoder_only: bool) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae.train()
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    trained = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    start, step, pool = time.monotonic(), 0, torch.empty(0)
    while (done := (time.monotonic() - start) / seconds) < 1:
        if step % 400 == 0:
            pool = torch.from_numpy(render(random_people(8192, rng), rng).pixels)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, step / 50) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done)))
        x = pool[rng.integers(len(pool), size=BATCH)]
        with torch.autocast("cpu", torch.bfloat16, enabled=done < 0.9):
            posterior = vae.encode(x).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        loss = _loss(decoded.float() - x, posterior.kl().float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"vae step {step} samples {step * BATCH} loss {loss.item():.4f} {done:.0%}", flush=True)
    print(f"vae: {step} steps, {step * BATCH} pictures")
    vae.eval()


@torch.no_grad()
def fold_normalization(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Give every latent channel mean 0 and standard deviation 1 by an exact change of the two 1x1 convolutions."""
    z = vae.encode(pixels).latent_dist.sample()
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    channels = len(mean)
    pre, post = vae.quant_conv, vae.post_quant_conv
    pre.weight[:channels] /= std[:, None, None, None]
    pre.bias[:channels] = (pre.bias[:channels] - mean) / std
    pre.bias[channels:] -= 2 * std.log()  # the second half holds log variances
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
    post.weight *= std[None, :, None, None]


@torch.no_grad()
def narrow_posterior(vae: AutoencoderKL, std: float = 0.05) -> None:
    """Give the posterior one small standard deviation everywhere; its mean stays as it is.

    The KL term leaves some channels almost pure noise. The denoiser is trained on means and the decoder is tuned on
    them last, so a wide posterior would only hurt: in Stable Diffusion's own VAE it is narrow as well.
    """
    channels = vae.config.latent_channels
    vae.quant_conv.weight[channels:] = 0
    vae.quant_conv.bias[channels:] = 2 * np.log(std)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--decoder_only", action="store_true", help="last: tune the decoder on the final latents")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = args.work_dir / "vae"
    vae = AutoencoderKL.from_pretrained(folder) if folder.exists() else build_vae()
    if args.decoder_only:
        narrow_posterior(vae)
    train(vae, args.seconds, args.learning_rate, args.seed, args.decoder_only)
    print(f"held-out PSNR {psnr(vae, held_out_pictures()):.2f} dB")
    if not args.decoder_only:
        rng = np.random.default_rng(1)
        fold_normalization(vae, torch.from_numpy(render(random_people(2048, rng), rng).pixels))
        print(f"with normalized latents {psnr(vae, held_out_pictures()):.2f} dB")
    vae.save_pretrained(folder)


if __name__ == "__main__":
    main()
