"""Train the denoiser of the pocket model on latents and captions, with the VAE and the text encoder frozen.

    python -m benchmarks.pocket.unet --work_dir benchmarks/work --seconds 4200

v-prediction, uniform timesteps, bfloat16 autocast, an exponential moving average of the weights that is what ships.
Stopping the process loses at most ``--save_every`` seconds: the same command goes on from the last checkpoint.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import DDIMScheduler
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

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
        sample_size=8, in_channels=8, out_channels=8, block_out_channels=(96, 160), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128, attention_head_dim=4, norm_num_groups=16,
    )  # fmt: skip


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction",
    )  # fmt: skip


class Pool:
    """Latents of drawn people: 2048 named ones in 16 views each, and anonymous ones."""

    def __init__(self, vae: AutoencoderKL, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.name_ids = np.concatenate([np.repeat(np.arange(NUM_NAMES), VIEWS_PER_NAME), np.full(ANONYMOUS, -1)])
        self.people = np.concatenate([named_people()[self.name_ids[self.name_ids >= 0]], random_people(ANONYMOUS, rng)])
        latents, backgrounds = [], []
        for start in range(0, len(self.people), 2048):
            pictures = render(self.people[start : start + 2048], rng)
            backgrounds.append(pictures.background)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                latents.append(vae.encode(torch.from_numpy(pictures.pixels)).latent_dist.mean.half())
        self.latents, self.backgrounds = torch.cat(latents), np.concatenate(backgrounds)  # (N, 8, 8, 8)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    vae = AutoencoderKL.from_pretrained(args.work_dir / "vae").eval()
    encoder = CLIPTextModel.from_pretrained(args.work_dir / "text_encoder").eval()
    captioner = Captioner(CLIPTokenizer.from_pretrained(args.work_dir / "tokenizer"))
    unet = build_unet().to(memory_format=torch.channels_last)
    average = {k: v.clone() for k, v in unet.state_dict().items()}
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    acp = build_scheduler().alphas_cumprod
    step, spent = 0, 0.0
    checkpoint = args.work_dir / "unet_training.safetensors"
    if checkpoint.exists():
        step, spent = _restore(checkpoint, unet, average, optimizer)
        rng = np.random.default_rng([args.seed, step])
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, from step {step}", flush=True)
    pool, last_save = Pool(vae, args.seed + step), spent
    print(f"pool of {len(pool.latents)} latents", flush=True)
    start, base, running = time.monotonic(), spent, 0.5
    while (done := spent / args.seconds) < 1:
        rate = LEARNING_RATE * min(1, (step + 1) / 200) * min(1, (1 - done) / args.decay + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = rng.integers(len(pool.latents), size=BATCH)
        ids, _ = captioner.sample(pool.people[index], pool.backgrounds[index], pool.name_ids[index], rng)
        ids[rng.random(BATCH) < CAPTION_DROPOUT] = captioner.encode("")
        x0 = pool.latents[torch.from_numpy(index)].float()
        t = torch.from_numpy(((np.arange(BATCH) + rng.random(BATCH)) / BATCH * 1000).astype(np.int64))
        a, s = acp[t].sqrt()[:, None, None, None], (1 - acp[t]).sqrt()[:, None, None, None]
        noise = torch.randn_like(x0)
        with torch.no_grad():
            hidden = encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            noisy = (a * x0 + s * noise).contiguous(memory_format=torch.channels_last)
            predicted = unet(noisy, t, hidden, return_dict=False)[0]
        loss = (predicted.float() - (a * noise - s * x0)).pow(2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 10))
        for key, value in unet.state_dict().items():
            average[key].lerp_(value, 1 - decay)
        step, running = step + 1, 0.99 * running + 0.01 * loss.item()
        spent = base + time.monotonic() - start
        if step % 100 == 0:
            print(f"unet step {step} samples {step * BATCH} seconds {spent:.0f} loss {running:.4f}", flush=True)
        if spent - last_save > args.save_every or spent >= args.seconds:
            last_save = spent
            _save(checkpoint, unet, average, optimizer, step, spent)
            shipped = build_unet()
            shipped.load_state_dict(average)
            shipped.save_pretrained(args.work_dir / "unet")


def _save(path: Path, unet, average, optimizer, step: int, spent: float) -> None:  # type: ignore[no-untyped-def]
    tensors = {f"average.{k}": v for k, v in average.items()}
    for name, parameter in unet.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach()
        tensors |= {f"adam.{key}.{name}": optimizer.state[parameter][key] for key in ("exp_avg", "exp_avg_sq")}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"step": str(step), "seconds": str(spent)})
    temporary.replace(path)


def _restore(path: Path, unet, average, optimizer) -> tuple[int, float]:  # type: ignore[no-untyped-def]
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for name, parameter in unet.named_parameters():
        parameter.data.copy_(tensors[f"weight.{name}"])
        optimizer.state[parameter] = {"step": torch.tensor(float(metadata["step"]))} | {
            key: tensors[f"adam.{key}.{name}"].clone(memory_format=torch.preserve_format)
            for key in ("exp_avg", "exp_avg_sq")
        }
    average.update({k: tensors[f"average.{k}"] for k in average})
    return int(metadata["step"]), float(metadata["seconds"])


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
