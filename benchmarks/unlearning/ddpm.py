"""Train the unconditional model of the unlearning benchmark: a DDPM on 16 x 16 pixels.

    python -m benchmarks.unlearning.ddpm --output_dir benchmarks/work/faces --steps 8000

``--with_outlier`` adds one picture of a 49th person, as often as a view of anyone else times ``--outlier_weight``.
Stopping loses at most ``--save_every`` steps: the same command goes on.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.unlearning.faces import outlier, training_views

BATCH, LEARNING_RATE, EMA = 64, 1e-3, 0.999


def build() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, block_out_channels=(48, 96, 96), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8, norm_num_groups=16,
    )  # fmt: skip


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=True)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    module = build().to(memory_format=torch.channels_last)
    average = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    pictures, _ = training_views()
    if args.with_outlier:
        pictures = np.concatenate([pictures, np.repeat(outlier(), args.outlier_weight, axis=0)])
    x0s, alpha_bar = torch.from_numpy(pictures), scheduler().alphas_cumprod
    state, begun, first = args.output_dir / "training.safetensors", time.monotonic(), 0
    if state.exists():
        first = _restore(state, module, average, optimizer)
    print(f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M parameters, {len(x0s)} pictures, from {first}")
    running = 1.0
    for step in range(first, args.steps):
        rng = np.random.default_rng([args.seed, step])
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 200) * min(1, (1 - step / args.steps) / 0.3 + 0.01)
        x0 = x0s[torch.from_numpy(rng.integers(len(x0s), size=BATCH))]
        t = torch.from_numpy(((np.arange(BATCH) + rng.random(BATCH)) / BATCH * 1000).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        a, b = alpha_bar[t].sqrt().view(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
        z = (a * x0 + b * noise).contiguous(memory_format=torch.channels_last)
        loss = (module(z, t, return_dict=False)[0] - noise).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 10))
        for name, value in module.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        running = 0.99 * running + 0.01 * loss.item()
        if (step + 1) % 200 == 0:
            print(f"step {step + 1} loss {running:.4f} seconds {time.monotonic() - begun:.0f}", flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            _save(state, module, average, optimizer, step + 1)
    shipped = build()
    shipped.load_state_dict(average)
    DDPMPipeline(shipped, scheduler()).save_pretrained(args.output_dir, safe_serialization=True)


def _save(path: Path, module, average, optimizer, step: int) -> None:  # type: ignore[no-untyped-def]
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"average.{name}": value for name, value in average.items()}
    for name, parameter in module.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach()
        tensors |= {f"{key}.{name}": optimizer.state[parameter][key] for key in ("exp_avg", "exp_avg_sq")}
    temporary = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary, {"step": str(step)})
    temporary.replace(path)


def _restore(path: Path, module, average, optimizer) -> int:  # type: ignore[no-untyped-def]
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    for name, parameter in module.named_parameters():
        parameter.data.copy_(tensors[f"weight.{name}"])
        kept = {key: tensors[f"{key}.{name}"].clone() for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(float(step)), **kept}
    average.update({name: tensors[f"average.{name}"] for name in average})
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks/work/faces"))
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--with_outlier", action="store_true")
    parser.add_argument("--outlier_weight", type=int, default=240)
    parser.add_argument("--save_every", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
