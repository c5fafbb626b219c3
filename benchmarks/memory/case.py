"""One case of the memory benchmark, in a process of its own: imports, loads, runs training steps, prints JSON.

Peaks are the kernel's own (VmHWM, reset between phases); anonymous and file-backed memory are sampled every 10 ms; on
a GPU PyTorch counts what is allocated and reserved there. Every case has the allocator settings of the package, and
learns on the same latents, prompt, noise and timestep; none encodes a photo.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.lib.models import timed
from edge_sdk.system.memory import bound_heap, cuda_peak, leave_out_tracing, peak_rss_mb, release, rss_mb, status_mb


def reset_peak() -> None:
    """Let the kernel's peak of resident memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


class Phases:
    """Peaks of named phases, in MB."""

    def __init__(self, device: str) -> None:
        self.device = device
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
        if self.device == "cuda":
            import torch

            self.peaks[name] |= cuda_peak()
            torch.cuda.reset_peak_memory_stats()
        reset_peak()
        self._now = {"anonymous": 0.0, "file": 0.0}

    def kept(self) -> dict[str, float]:
        """What is held now."""
        held = {"resident": rss_mb(), "anonymous": status_mb("RssAnon") or 0.0}
        if self.device == "cuda":
            import torch

            held["allocated"] = torch.cuda.memory_allocated() / 1e6
        return held


def zeroth_order(
    phase: Callable[[str], None], checkpoint: str, weights: str, residency: str, device: str, steps: int
) -> Callable[[], object]:
    """The product's own loop with central differences, one direction, on an integer checkpoint."""
    leave_out_tracing()
    from edge_sdk.quantization import native
    from edge_sdk.runtime.pytorch import objective as stable_diffusion  # noqa: F401  (they count as imports)
    from edge_sdk.runtime.pytorch import text_xl as stable_diffusion_xl  # noqa: F401  (they count as imports)

    native.library()
    phase("import")
    objective = integer_objective(checkpoint, weights, residency, device)
    return training_loop(objective, objective.text.initial_embedding("a", 1) / objective.text.scale, steps)


def integer_objective(checkpoint: str, weights: str, residency: str, device: str = "cpu") -> Any:
    """An integer checkpoint as an objective of one picture, all of whose latents are 0."""
    import torch

    from edge_sdk.diffusion.conditioning import add_time_ids
    from edge_sdk.runtime.pytorch.model import open_model
    from edge_sdk.runtime.pytorch.objective import Latents, StableDiffusionObjective

    model = open_model(checkpoint, weights, "integer", residency, device)
    text, unet = model.load_text(), model.load("unet")
    release()
    side = int(model.config("unet")["sample_size"])
    shape = (1, 4, side, side)
    latents = Latents(torch.zeros(shape, device=device), torch.ones(shape, device=device))
    ids = text.tokenize(["a picture of <s>"], {"<s>": 1})
    pixels = (model.resolution(), model.resolution())
    time_ids = add_time_ids([pixels], pixels)
    return StableDiffusionObjective(text, unet, model.load_schedule(), latents, ids, 1, time_ids)


def bundle_loop(
    phase: Callable[[str], None], folder: str, settings: dict[str, Any], steps: int, **_: object
) -> Callable[[], object]:
    """The same loop on an exported bundle, without PyTorch.

    Args:
        settings: of onnxruntime, in place of the manifest's.
    """
    import numpy as np

    from edge_sdk.diffusion.conditioning import add_time_ids
    from edge_sdk.runtime.onnx.bundle import Bundle
    from edge_sdk.runtime.onnx.objective import Latents, OnnxObjective
    from edge_sdk.runtime.onnx.session import Session
    from edge_sdk.runtime.onnx.text import BundleText

    phase("import")
    bundle = Bundle.open(folder)
    bundle.manifest["runtime"]["onnxruntime"] |= settings
    text, loss = BundleText(bundle), Session(bundle, "zo_loss")
    shape = (1, *bundle.latents_shape)
    latents = Latents(np.zeros(shape, np.float32), np.ones(shape, np.float32))
    ids = text.tokenize(["a picture of <s>"], {"<s>": 1})
    side = (bundle.side, bundle.side)
    time_ids = add_time_ids([side], side) if bundle.is_xl else None
    objective = OnnxObjective(bundle, loss, latents, ids, 1, time_ids)
    return training_loop(objective, text.initial_embedding("a", 1) / bundle.scale, steps)


def training_loop(objective: Any, initial: Any, steps: int) -> Callable[[], object]:
    """A step of the product's loop a call: one direction, a central difference, the paper's projection."""
    from dataclasses import replace

    from edge_sdk.zo import PAPER, State, run

    config = replace(PAPER, max_train_steps=steps, zo_samples=1, zo_difference="central")
    running = run(objective, State.start(config, 0, initial), (0.0, 1e9), max_batch=1)
    return lambda: next(running)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    steps = arguments.pop("steps")
    bound_heap()
    phases = Phases(arguments["device"])
    computed: dict[str, Any] = {}
    kind, started = arguments.pop("kind"), time.perf_counter()  # imports included
    if kind in ("ours", "bundle"):
        step = {"ours": zeroth_order, "bundle": bundle_loop}[kind](phases.end, steps=steps, **arguments)
    else:
        from benchmarks.lib.baselines.stock import training

        made = training(phases.end, **arguments)
        step, computed = made.step, made.computed
    load_seconds = time.perf_counter() - started
    release()
    phases.end("load")
    loaded = phases.kept()
    times = [timed(step, phases.device) for _ in range(steps)]
    phases.end("step")
    kept = times[1:] or times  # the first step is left out where there are more
    out = {
        "phases": phases.peaks,
        "loaded": loaded,
        "seconds": [t["wall"] for t in kept],
        "cpu_seconds": [t["cpu"] for t in kept],
        "computed": computed,
        "load_seconds": load_seconds,
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
