"""The stages of a personalization run whose folder is locked: start, train, record, draw."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_sdk import mu_floor
from edge_sdk.config import PersonalizeConfig
from edge_sdk.errors import Cancelled, EdgeSdkError
from edge_sdk.forecast import Forecast, within
from edge_sdk.images import Photos, save_png
from edge_sdk.personalizer import HELD_OUT, Personalizer
from edge_sdk.preparation import ENCODING, Prepared
from edge_sdk.preview import PREVIEW, VALIDATION, VALIDATION_INFERENCE_STEPS, Validation, draw_preview, preview_rows
from edge_sdk.progress import OnProgress
from edge_sdk.run_log import ForwardsOf, RunLog, RunRecord, record_of, total
from edge_sdk.system.files import write_json
from edge_sdk.system.memory import AnonPeak
from edge_sdk.time_budget import TimeBudget, TimeUpError
from edge_sdk.zo import NonFiniteLossError, State, Step
from edge_sdk.zo.early_stopping import SAVE, Flat, steps_of

SAVING_S = 1.0  # for the files at the end
PREVIEW_SHARE = 0.5  # of the time that is left before the first step: a longer preview is left out


@dataclass
class Run:
    """One run; its methods are called in the order in which they stand here."""

    folder: Path
    personalizer: Personalizer
    budget: TimeBudget
    preview: bool
    validation: Validation | None
    of_a_bundle: bool  # which decides weights, execution, residency and device
    log: RunLog
    notify: Callable[[str], None]
    on_progress: OnProgress
    on_step: Callable[[Step], None]
    stop: Callable[[], bool]
    save: Callable[[Path, State, Prepared], None]
    resumed: int = 0  # steps
    loss_initial: float = math.nan
    loss_final: float = math.nan
    anon: AnonPeak = field(default_factory=AnonPeak)
    drawn: dict[str, int] = field(default_factory=lambda: {PREVIEW: 0, VALIDATION: 0})  # forward passes, by stage
    _warned: bool = False  # that the time budget cannot be kept
    _encoding_began: float = math.nan

    def __post_init__(self) -> None:
        self.personalizer.on_progress = self._watch
        self.forecast = Forecast(self.personalizer, self.preview, self.validation, self.personalizer.pace)

    def start(self, photos: Photos, config: PersonalizeConfig) -> None:
        """Prepare, and measure the floor of mu and the initial loss."""
        self._steps = self.personalizer.fit(photos, config)
        self._before_the_first_step()

    def resume(self, state: State) -> None:
        """The same from a state of a prepared personalizer; the floor of mu is part of the state."""
        self.resumed = state.step
        self._steps = self.personalizer.resume(state)
        for message in self.personalizer.fitted().notices:
            self.notify(message)
        self._before_the_first_step()

    def _before_the_first_step(self) -> None:
        prepared = self.personalizer.fitted()
        if prepared.variance_share is not None:
            share = f"{prepared.variance_share:.0%} of the vocabulary's variance"
            self.notify(f"the directions that are searched hold {share}")
        self.loss_initial = self.personalizer.held_out_loss(prepared.initial)
        self.anon.sample()
        if self.validation:
            self.notify(self.forecast.validation_line())
        if self.preview and self.forecast.preview_s > PREVIEW_SHARE * self.budget.left:
            self._leave_out_preview(f"it would take about {within(self.forecast.preview_s)}")

    def train(self) -> None:
        """Take steps until the last one, the time budget, a flat loss or the user ends them; then measure.

        Raises:
            EdgeSdkError: losses are not finite any more; the last good token is saved.
            Cancelled: the user stopped the run.
        """
        personalizer, prepared, state = self.personalizer, self.personalizer.fitted(), self.personalizer.started()
        config, zo = personalizer.config, prepared.zo
        flat = None
        if config.stop_when_flat:
            reached = personalizer.held_out_loss() if self.resumed else self.loss_initial
            flat = Flat(personalizer.held_out_loss, self.loss_initial, reached, zo)
        saving, clamped, marked = config.checkpointing_steps or steps_of(SAVE, zo), False, time.monotonic()
        try:
            for step in self._steps:
                took = time.monotonic() - marked
                self.anon.sample()
                self.log.step(step)
                self.on_step(step)
                if step.clamped and not clamped:
                    clamped = True
                    self.notify(f"step {step.step}: the token reached the vocabulary's largest norm and is kept there")
                last = step.step == zo.max_train_steps
                stopped = self.stop() and not last
                if saved := step.step % saving == 0 or last or stopped:
                    self.save(self.folder, state, prepared)
                if stopped:
                    raise Cancelled(f"stopped after step {step.step}, saved")
                self._validate(step.step, took)
                late = not last and self.budget.left < took + self._reserve(flat is not None)
                done = flat is not None and not (late or last) and flat(step.step)
                if (late or done) and not saved:
                    self.save(self.folder, state, prepared)
                if late:
                    self.notify(f"the time budget ends the run after step {step.step}")
                    break
                if done:
                    self.notify(
                        f"the loss on draws that training never uses is flat; the run ends after step {step.step}"
                    )
                    break
                marked = time.monotonic()
            self.loss_final = personalizer.held_out_loss()
            if not math.isfinite(self.loss_final):
                raise NonFiniteLossError("the loss of the learned token is not finite")
        except NonFiniteLossError as error:
            self.save(self.folder, state, prepared)
            path = personalizer.save(self.folder)
            raise EdgeSdkError(
                f"{error}; the last good token is in {path}, start a new run with a smaller learning_rate or zo_mu"
            ) from error
        personalizer.save(self.folder)

    def _reserve(self, looks: bool) -> float:
        """Seconds that are kept for what comes after the steps; ``looks``: the loss is also measured between them."""
        measuring = self.forecast.seconds((2.5 if looks else 1.5) * self.forecast.eval_draws)
        return measuring + SAVING_S + (self.forecast.preview_s if self.preview else 0.0)

    def _validate(self, step: int, step_s: float) -> None:
        """Draw the validation prompt where it is due and there is time for it."""
        if self.validation is None or step % self.validation.every:
            return
        began = time.monotonic()
        try:
            self.budget.check(self.forecast.validation_s + self._reserve(False))
            watch = self._ending(step_s + self._reserve(False))
            picture = self.validation.draw(self.personalizer, on_progress=watch)
        except TimeUpError:
            self.notify(f"step {step}: the time budget leaves no time for a picture of the validation prompt")
            return
        self.forecast.validation_step_s = (time.monotonic() - began - self.forecast.vae_s) / VALIDATION_INFERENCE_STEPS
        self.validation.save(self.folder, step, picture)
        self.log.picture(picture, step)

    def record(self, command: str) -> RunRecord:
        """Write ``run.json``; returns what it holds."""
        losses = self.loss_initial, self.loss_final
        record = record_of(
            self.personalizer, command, losses, self.resumed, self.anon.mb, self.of_a_bundle, self._forwards_of()
        )
        write_json(self.folder / "run.json", record)
        return record

    def draw_preview(self, record: RunRecord) -> None:
        """Write ``preview.png`` unless it is left out or there is no time for it; the objective is closed.

        Its forward passes are added to the record and to ``run.json``.
        """
        if not self.preview:
            return
        if self.budget.left < self.forecast.preview_s:
            self._leave_out_preview("the time budget is spent")
            return
        self.notify("drawing preview.png (--no_preview leaves it out)")
        try:
            save_png(draw_preview(self.personalizer, on_progress=self._ending()), self.folder / "preview.png")
        except TimeUpError:
            self._leave_out_preview("the time budget is spent")
        record["forwards_of"] = self._forwards_of()
        record["forwards"] = total(record["forwards_of"])
        write_json(self.folder / "run.json", record)

    def _forwards_of(self) -> ForwardsOf:
        floor = self.personalizer.mu_floor
        return {
            "floor of mu": floor.forwards if floor else 0,
            "held-out losses": self.personalizer.held_out_forwards,
            "steps": self.personalizer.started().forwards,
            "preview": self.drawn[PREVIEW],
            "validation": self.drawn[VALIDATION],
        }

    def _ending(self, reserve: float = 0.0) -> OnProgress:
        """Passes progress on, and counts forward passes; raises TimeUpError as soon as no more than a reserve is left.

        Args:
            reserve: in seconds.
        """
        rows = preview_rows(self.personalizer.model)
        pictures = {PREVIEW: 2 * rows, VALIDATION: 1}  # that are decoded after all denoising steps
        a_step = {PREVIEW: 2 * rows, VALIDATION: 2}  # forward passes: with and without the prompt

        def on_progress(stage: str, done: int, total: int) -> None:
            if 0 < done <= total - pictures[stage]:
                self.drawn[stage] += a_step[stage]
            self.on_progress(stage, done, total)
            if done < total:
                self.budget.check(reserve)

        return on_progress

    def _leave_out_preview(self, why: str) -> None:
        self.preview = False
        self.notify(
            f"preview.png is left out: {why}, and the time budget has {within(max(0.0, self.budget.left))} left"
        )

    def _watch(self, stage: str, done: int, total: int) -> None:
        """Pass progress on; time the VAE; say it as soon as the time budget cannot be kept."""
        self.on_progress(stage, done, total)
        if stage == ENCODING:
            if done == 0:
                self._encoding_began = time.monotonic()
            else:
                self.forecast.vae_s = (time.monotonic() - self._encoding_began) / done  # decoding takes about as long
        measuring = stage == mu_floor.MEASURING or (stage == HELD_OUT and math.isnan(self.loss_initial))
        if not measuring or self._warned or not (self.personalizer.pace.calls > 1 or done == total):
            return
        later = (2 if stage == mu_floor.MEASURING else 1) * self.forecast.eval_draws + self.forecast.step_forwards
        needed = self.forecast.seconds(total - done + later)
        if needed > self.budget.left:
            self._warned = True
            self.notify(
                f"the time budget of {self.budget.seconds:g} s cannot be kept: at {self.forecast.seconds(1):.2g} s a "
                f"forward pass, measuring and one step take {within(needed)} more, and "
                f"{within(max(0.0, self.budget.left))} are left; the run ends after its first step"
            )
