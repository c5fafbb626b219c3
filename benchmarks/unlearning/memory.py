"""What unlearning takes at the true size of Stable Diffusion 3 medium: an estimate, for there are no weights to load.

    python -m benchmarks.unlearning.memory

Shapes are counted on the meta device, as `edge-sdk unlearn` does before it loads a model. The last row shows how far
such an estimate can be trusted: it is of the benchmark's DDPM, and measured as well. What a backward pass holds for a
moment, and what the allocator keeps, comes on top.
"""

from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.report import machine, markdown, say
from benchmarks.unlearning.faces import views
from edge_sdk.errors import EdgeSdkError
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import peak_rss_mb, rss_mb
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.denoiser import load_denoiser
from edge_sdk.unlearning.estimate import Estimate, estimate
from edge_sdk.unlearning.training.loop import Unlearner
from edge_sdk.unlearning.training.losses import Losses

COMMAND = "python -m benchmarks.unlearning.memory"
OUTPUT = Path("benchmarks/results/unlearning_memory.json")
FACES = Path("benchmarks/work/faces")
SD3_MEDIUM = {
    "_class_name": "SD3Transformer2DModel",
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
BATCH = 512  # of the DDPM, so that its activations are large beside an interpreter


def estimated() -> list[dict[str, Any]]:
    found = []
    for side in (512, 1024):
        for rank in (0, 16):
            config = UnlearnConfig(lora_rank=rank, forget_batch=1, retain_batch=1)
            need = estimate(SD3_MEDIUM, (16, side // 8, side // 8), config)
            trained = f"adapters of rank {rank}" if rank else "weights in branches"
            found.append(_row(f"Stable Diffusion 3 medium, {side} px, batch 1", trained, need))
    return found


def measured() -> dict[str, Any]:
    """The DDPM: what two steps add to a process that has it loaded."""
    if not FACES.is_dir():
        raise EdgeSdkError(f"no folder {FACES}; make it with python -m benchmarks.unlearning.ddpm")
    config = UnlearnConfig(forget_batch=BATCH, retain_batch=BATCH, micro_batch=BATCH)
    denoiser = load_denoiser(str(FACES))
    need = estimate(denoiser.place.config, denoiser.shape, config)
    pixels = torch.from_numpy(views(1, 0)[0])
    losses = Losses(denoiser, pixels[:1], pixels[None, 1:2], pixels[2:], config)
    before = rss_mb()
    run = Unlearner(losses)
    run.step()
    run.step()
    row = _row(f"benchmark's DDPM, batch {BATCH}", "weights in branches", need)
    return {**row, "measured_mb": need.weights + peak_rss_mb() - before}


def _row(model: str, trained: str, need: Estimate) -> dict[str, Any]:
    return {
        "model": model,
        "trained": trained,
        "weights_mb": need.weights,
        "trained_mb": need.trained,
        "metric_mb": need.metric,
        "activations_mb": need.activations,
        "total_mb": need.total,
    }


def main() -> None:
    rows = [*estimated(), measured()]
    write_json(OUTPUT, {"command": COMMAND, "date": date.today().isoformat(), "machine": machine(), "rows": rows})
    counted = ("weights_mb", "trained_mb", "metric_mb", "activations_mb")
    cells = [
        [
            r["model"],
            r["trained"],
            *(f"{r[key]:.0f}" for key in counted),
            f"{r['total_mb']:.0f}",
            f"{r['measured_mb']:.0f}" if "measured_mb" in r else "",
        ]
        for r in rows
    ]
    head = [
        "model",
        "trained",
        "weights",
        "gradients, Adam",
        "metric",
        "activations",
        "in all, estimated",
        "in all, measured",
    ]
    say(markdown(head, cells) + "\n\nMB of training, text encoders and VAE left out.", COMMAND, OUTPUT)


if __name__ == "__main__":
    main()
