"""One word of one subject by one method, in a process of its own, so that memory is this method's alone.

    python -m benchmarks.dreambooth.learn '{"method": "fast", ...}'

Leaves ``learned_embeds.safetensors`` and ``run.json`` in a folder. A run of the product that was cut off goes on from
its last checkpoint; backpropagation starts again.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.baselines.backprop import BackpropConfig, train
from benchmarks.lib.lockstep import View
from edge_sdk import LearnedEmbedding, Personalizer
from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import save_embedding
from edge_sdk.run_folder import run_personalization
from edge_sdk.system.checkpoints import checkpoints
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import cuda_peak, peak_rss_mb

TOKEN = "<subject>"
METHODS = ("fast", "paper", "backprop")
BACKPROP_STEPS, BACKPROP_RATE = 5000, 5e-3  # textual inversion as ZOODiP's authors ran it, one draw a step
PASSES = 3  # forward passes that a step of backpropagation takes the time of


@dataclass(frozen=True)
class Task:
    """What is learned, and where the result goes."""

    method: str
    model: str
    weights: str
    device: str
    photos: str
    initializer: str
    seed: int
    steps: int | None  # None for the method's own number
    folder: str


def learn(task: Task) -> dict[str, Any]:
    """Learn, unless it is done already; the record that is in ``run.json``."""
    folder = Path(task.folder)
    done = folder / "run.json"
    if done.exists():
        return json.loads(done.read_text())
    return _backprop(task, folder) if task.method == "backprop" else _forward_only(task, folder)


def _forward_only(task: Task, folder: Path) -> dict[str, Any]:
    steps = {} if task.steps is None else {"max_train_steps": task.steps}
    settings: Any = {"preset": task.method, "seed": task.seed, "initializer_token": task.initializer, **steps}
    settings |= {"placeholder_token": TOKEN, "weights": task.weights, "device": task.device}
    begun = folder.is_dir() and checkpoints(folder)
    return dict(
        run_personalization(
            task.photos,
            folder,
            task.model,
            resume_from_checkpoint="latest" if begun else None,
            preview=False,
            **settings,
        )
    )


def _backprop(task: Task, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    personalizer = Personalizer.from_pretrained(task.model, "none", device=task.device)  # type: ignore[arg-type]
    options: Any = {"initializer_token": task.initializer, "seed": task.seed, "placeholder_token": TOKEN}
    prepared = personalizer.prepare(task.photos, PersonalizeConfig.from_options(**options))
    config = BackpropConfig(
        max_train_steps=task.steps or BACKPROP_STEPS,
        train_batch_size=1,
        learning_rate=BACKPROP_RATE,
        timestep_range=(0, personalizer.model.num_train_timesteps),
    )
    objective: Any = prepared.objective
    view = View(objective, 0, objective.num_images)
    (((vectors),),) = train(objective, [view], prepared.initial / prepared.scale, [task.seed], config)
    folder.mkdir(parents=True, exist_ok=True)
    embedding = LearnedEmbedding(TOKEN, vectors * prepared.scale, widths=prepared.widths)
    save_embedding(folder / "learned_embeds.safetensors", embedding)
    record = {
        "preset": "backprop",
        "weights": "none",
        "steps": config.max_train_steps,
        "unet_forwards": PASSES * config.max_train_steps,
        "seconds": time.monotonic() - started,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "seed": task.seed,
    }
    if task.device == "cuda":
        record["peak_cuda_mb"] = cuda_peak()
    write_json(folder / "run.json", record)
    return record


if __name__ == "__main__":
    learn(Task(**json.loads(sys.argv[1])))
