"""One case of the memory benchmark, in a process of its own: imports, loads, runs training steps, prints JSON.

Peaks are the kernel's own (VmHWM, reset between phases); anonymous and file-backed memory are sampled every 10 ms.
Every case learns one token on the same latents, prompt, noise and timestep; none encodes a photo.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_sdk.memory import peak_rss_mb, status_mb

STEPS = 3  # the first one is left out of the time


class Phases:
    """Peaks of named phases, in MB."""

    def __init__(self) -> None:
        self.peaks: dict[str, dict[str, float]] = {}
        self._now = {"anonymous": 0.0, "file": 0.0}
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._look()
            time.sleep(0.01)

    def _look(self) -> None:
        for key, name in (("anonymous", "RssAnon"), ("file", "RssFile")):
            self._now[key] = max(self._now[key], status_mb(name) or 0.0)

    def end(self, name: str) -> None:
        """Close the phase that began at the last call."""
        self._look()
        self.peaks[name] = {"resident": peak_rss_mb(), **self._now}
        Path("/proc/self/clear_refs").write_text("5")
        self._now = {"anonymous": 0.0, "file": 0.0}


def zeroth_order(phases: Phases, checkpoint: str, weights: str, residency: str) -> Callable[[], object]:
    """The product's own loop with central differences, one direction, on an integer checkpoint."""
    from dataclasses import replace

    import torch

    from edge_sdk.diffusion.stable_diffusion import Latents, StableDiffusionObjective
    from edge_sdk.diffusion.stable_diffusion_xl import picture_sizes
    from edge_sdk.memory import release
    from edge_sdk.models import open_model
    from edge_sdk.quantization import layers
    from edge_sdk.zo import PAPER, State, run

    layers.backend()
    phases.end("import")
    model = open_model(checkpoint, weights, "integer", residency)
    text, unet = model.load_text(), model.load("unet")
    release()
    side = int(model.config("unet")["sample_size"])
    latents = Latents(torch.zeros(1, 4, side, side), torch.ones(1, 4, side, side))
    ids = text.tokenize(["a picture of <s>"], {"<s>": 1})
    pixels = (model.resolution(), model.resolution())
    sizes = picture_sizes([pixels], pixels)
    objective = StableDiffusionObjective(text, unet, model.load_schedule(), latents, ids, 1, sizes)
    config = replace(PAPER, max_train_steps=STEPS, zo_samples=1, zo_difference="central")
    state = State.start(config, 0, text.initial_embedding("a", 1) / text.scale)
    steps = run(objective, state, (0.0, 1e9), max_batch=1)
    return lambda: next(steps)


def stock(
    phases: Phases, folder: str, dtype: str, method: str, checkpointing: bool = False, quantize: str = ""
) -> Callable[[], object]:
    """Diffusers and transformers as they come: forward passes of a central difference, or backpropagation with Adam."""
    import torch
    from diffusers.models import UNet2DConditionModel
    from transformers import CLIPTextModel

    if quantize:
        from optimum import quanto
    phases.end("import")
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    unet = UNet2DConditionModel.from_pretrained(f"{folder}/unet", torch_dtype=kind, use_safetensors=True)
    text = CLIPTextModel.from_pretrained(f"{folder}/text_encoder", dtype=kind, use_safetensors=True)
    for module in (unet, text):
        module.requires_grad_(False)
        if quantize:
            quanto.quantize(module, weights=quanto.qtypes[f"q{quantize}"])
            quanto.freeze(module)
    if checkpointing:
        unet.train()
        unet.enable_gradient_checkpointing()
    token = torch.zeros(1, text.config.hidden_size, requires_grad=method == "backprop")
    ids = torch.arange(text.config.max_position_embeddings)[None]
    side = unet.config.sample_size
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, side, side, generator=generator).to(kind)
    timestep = torch.tensor([500])
    text.get_input_embeddings().register_forward_hook(
        lambda _m, _i, out: torch.cat([out[:, :4], token.to(kind)[None], out[:, 5:]], dim=1)
    )

    def loss() -> Any:
        hidden = text(input_ids=ids).last_hidden_state
        return (unet(noise, timestep, hidden).sample.float() - noise.float()).pow(2).mean()

    optimizer = torch.optim.Adam([token], lr=1e-3)

    def backprop() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def forwards() -> None:
        with torch.inference_mode():
            z = torch.randn(token.shape, generator=generator)
            slope = 0.0
            for sign in (1, -1):
                token.add_(1e-3 * sign * z)
                slope += sign * float(loss())
                token.sub_(1e-3 * sign * z)
            token.sub_(1e-3 * slope / 2e-3 * z)

    return backprop if method == "backprop" else forwards


def main() -> None:
    arguments = json.loads(sys.argv[1])
    kind = {"ours": zeroth_order, "stock": stock}[arguments.pop("kind")]
    phases = Phases()
    step = kind(phases, **arguments)
    phases.end("load")
    seconds = []
    for _ in range(STEPS):
        start = time.monotonic()
        step()
        seconds.append(time.monotonic() - start)
    phases.end("step")
    print(json.dumps({"phases": phases.peaks, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
