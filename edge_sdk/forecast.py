"""What a run takes: forward passes of each of its parts, and with a measured pace their seconds."""

import math
import time
from dataclasses import dataclass

import numpy as np

from edge_sdk import mu_floor
from edge_sdk.personalizer import Personalizer
from edge_sdk.preview import PREVIEW_STEPS, Validation, draw_preview, preview_rows
from edge_sdk.progress import CountingObjective, OnProgress, Pace
from edge_sdk.run_log import ForwardsOf, RunRecord
from edge_sdk.system.memory import cuda_peak, peak_rss_mb
from edge_sdk.zo import State, held_out_draws
from edge_sdk.zo.calibrate import LENGTHS

PACE = "measuring a forward pass"  # the name of a stage
MEASURED_CALLS = 2  # the first one warms up


@dataclass
class Forecast:
    """What a prepared run takes.

    Attributes:
        preview: whether preview.png is drawn at the end.
        pace: of forward passes; may be measured later. vae_s: seconds of a picture through the VAE, likewise.
    """

    personalizer: Personalizer
    preview: bool
    validation: Validation | None
    pace: Pace
    vae_s: float = 0.0
    preview_step_s: float | None = None  # a denoising step of a row of the preview, where it is measured
    validation_step_s: float | None = None  # of the validation prompt

    def seconds(self, forwards: float) -> float:
        """Of so many forward passes; NaN before the pace is measured."""
        return forwards * self.pace.seconds_per_row

    @property
    def mu_forwards(self) -> tuple[int, int]:
        """Least and most for the floor of mu, which is looked for again where the first look leaves a doubt."""
        looks = [2 * count * LENGTHS for count in mu_floor.DIRECTIONS]
        return looks[0], sum(looks)

    @property
    def eval_draws(self) -> int:
        """Forward passes of a loss on held-out draws."""
        return self.personalizer.config.eval_draws

    @property
    def step_forwards(self) -> int:
        return self.personalizer.fitted().zo.forwards_per_step

    @property
    def steps(self) -> int:
        return self.personalizer.fitted().zo.max_train_steps

    @property
    def preview_pictures(self) -> int:
        return 2 * preview_rows(self.personalizer.model) if self.preview else 0

    @property
    def preview_forwards(self) -> int:
        """Of all its pictures, each with and without the prompt."""
        return 2 * PREVIEW_STEPS * self.preview_pictures

    @property
    def preview_s(self) -> float:
        if not self.preview:
            return 0.0
        steps = self.seconds(self.preview_forwards)
        if self.preview_step_s is not None:
            steps = 2 * PREVIEW_STEPS * self.preview_step_s
        return steps + self.preview_pictures * self.vae_s

    @property
    def validation_pictures(self) -> int:
        return self.steps // self.validation.every if self.validation else 0

    @property
    def validation_s(self) -> float:
        """Of one picture."""
        if self.validation is None:
            return 0.0
        steps = self.seconds(self.validation.forwards)
        if self.validation_step_s is not None:
            steps = PREVIEW_STEPS * self.validation_step_s
        return steps + self.vae_s

    @property
    def forwards(self) -> int:
        """Of the whole run, at most."""
        learning = self.mu_forwards[1] + 2 * self.eval_draws + self.steps * self.step_forwards
        validation = self.validation_pictures * self.validation.forwards if self.validation else 0
        return learning + self.preview_forwards + validation

    @property
    def run_s(self) -> float:
        """Of everything after the denoiser is loaded, at most."""
        learning = self.mu_forwards[1] + 2 * self.eval_draws + self.steps * self.step_forwards
        return self.seconds(learning) + self.preview_s + self.validation_pictures * self.validation_s

    def validation_line(self) -> str:
        """What the pictures of the validation prompt cost."""
        assert self.validation is not None
        return (
            f"a picture of the validation prompt every {self.validation.every} steps: {self.validation.forwards} "
            f"forward passes and about {self.validation_s:.3g} s each, {self.validation_pictures} in all"
        )


def foretell(personalizer: Personalizer, preview: bool, validation: Validation | None, started: float) -> RunRecord:
    """Measure a prepared run a little: two calls of the denoiser, and pictures of two steps where any are drawn.

    Args:
        started: `time.monotonic` when the command started.

    Returns:
        ``steps, forwards`` (at most), ``forwards_of`` each part, ``seconds_per_forward, seconds`` (of the whole
        command, at most), ``peak_rss_mb``, on a GPU ``peak_cuda_mb``.
    """
    prepared = personalizer.fitted()
    forecast = Forecast(personalizer, preview, validation, measure_pace(personalizer))
    start = prepared.initial / prepared.scale
    personalizer.resume(State.start(prepared.zo, personalizer.config.seed, start, basis=prepared.basis))
    before = time.monotonic() - started
    if validation:
        watch = _Stopwatch(personalizer.on_progress)
        validation.draw(personalizer, steps=MEASURED_CALLS, on_progress=watch)
        forecast.validation_step_s, forecast.vae_s = watch.step_s(MEASURED_CALLS), watch.last_s
    if preview:
        watch = _Stopwatch(personalizer.on_progress)
        draw_preview(personalizer, steps=MEASURED_CALLS, on_progress=watch)
        forecast.preview_step_s = watch.step_s(MEASURED_CALLS)
        forecast.vae_s = 2 * watch.last_s / forecast.preview_pictures
    parts: ForwardsOf = {
        "floor of mu": list(forecast.mu_forwards),
        "held-out losses": 2 * forecast.eval_draws,
        "steps": forecast.steps * forecast.step_forwards,
        "preview": forecast.preview_forwards,
        "validation": forecast.validation_pictures * (validation.forwards if validation else 0),
    }
    record: RunRecord = {
        "steps": forecast.steps,
        "forwards": forecast.forwards,
        "forwards_of": parts,
        "seconds_per_forward": forecast.pace.seconds_per_row,
        "seconds": before + forecast.run_s,
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    if personalizer.model.device == "cuda":
        record["peak_cuda_mb"] = cuda_peak()
    return record


class _Stopwatch:
    """Times at which parts of a stage were done."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self.times: list[float] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._on_progress(stage, done, total)
        self.times.append(time.monotonic())

    def step_s(self, number: int) -> float:
        """Seconds of a part, by its number from 1."""
        return self.times[number] - self.times[number - 1]

    @property
    def last_s(self) -> float:
        return self.times[-1] - self.times[-2]


def measure_pace(personalizer: Personalizer) -> Pace:
    """The pace of the calls that steps make, from two of them; the personalizer is prepared."""
    prepared, config = personalizer.fitted(), personalizer.config
    rows = min(config.rows(prepared.objective.latents_shape, prepared.objective.rows), prepared.zo.forwards_per_step)
    (draw,) = held_out_draws(prepared.objective, config.seed, 1, prepared.zo.timestep_range)
    shifts = np.linspace(0, prepared.zo.zo_mu, rows)[:, None, None]  # a row each, as the embeddings of a step differ
    embeddings = (prepared.initial / prepared.scale + shifts).astype(np.float32)
    pace, total = Pace(), MEASURED_CALLS * rows
    personalizer.on_progress(PACE, 0, total)
    objective = CountingObjective(prepared.objective, pace, lambda done: personalizer.on_progress(PACE, done, total))
    call = objective.residuals if prepared.zo.optimizer == "gauss_newton" else objective.losses
    for _ in range(MEASURED_CALLS):
        call(embeddings, [draw] * rows)
    return pace


def within(seconds: float) -> str:
    """Seconds for people, such as "45 s", "12 min" or "2.1 h"."""
    if not math.isfinite(seconds) or seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
