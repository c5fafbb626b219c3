"""A personalization run on disk: lock, checkpoints, resume, the learned file, ``run.json``, the preview."""

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_sdk.config import PersonalizeConfig
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import RunLock, disk_errors, prepare_output_dir, write_json
from edge_sdk.images import Photos, contact_sheet, load_photos, save_png, to_pil
from edge_sdk.memory import AnonPeak, peak_rss_mb, release
from edge_sdk.models import open_model
from edge_sdk.personalize import Personalizer
from edge_sdk.zo import (
    CheckpointError,
    NonFiniteLossError,
    State,
    Step,
    latest_checkpoint,
    load_state,
    save_checkpoint,
)  # fmt: skip

SCHEMA_VERSION = 1
PREVIEW_PICTURES = 5
PREVIEW_STEPS = 25


class Cancelled(Exception):
    """The user stopped the run; its state is saved."""


def run_personalization(
    train_data_dir: str | Path,
    output_dir: str | Path,
    model: str = "pocket",
    *,
    resume_from_checkpoint: str | None = None,
    time_budget_s: float | None = None,
    preview: bool = True,
    report_to: str | None = None,
    on_start: Callable[[Photos], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    command: str = "personalize",
    **options: Any,
) -> dict[str, Any]:
    """Learn a token from photos and leave a complete run folder.

    Args:
        train_data_dir: a folder of photos.
        output_dir: a new folder, or the run's own when resuming.
        model: "pocket", a diffusers folder, an integer checkpoint, or a hub id.
        resume_from_checkpoint: "latest" or the path of a checkpoint folder of this run.
        time_budget_s: wall-clock seconds for everything but the preview; the run ends early with what it has.
        preview: draw before and after beside the photos, as ``preview.png``. It holds small copies of the photos.
        report_to: "tensorboard" writes loss curves to ``output_dir/logs``.
        on_start, on_step: progress callbacks. stop: asked after every step; true ends the run with `Cancelled`.
        options: any setting of `PersonalizeConfig` and `ZoConfig`.

    Raises:
        EdgeSdkError: anything the user can mend, in one line.
        Cancelled: ``stop`` said so; a checkpoint was written first.
    """
    started = time.monotonic()
    config, folder = PersonalizeConfig.from_options(**options), Path(output_dir)
    opened = open_model(model, config.weights, config.execution)
    photos = load_photos(train_data_dir, config.resolution or opened.resolution(), config.center_crop)
    prepare_output_dir(folder, resume=resume_from_checkpoint is not None)
    with RunLock(folder), _logger(report_to, folder) as log, _training_errors(folder):
        if on_start:
            on_start(photos)
        personalizer, anon = Personalizer(opened), AnonPeak()
        steps = personalizer.fit(photos, config)
        fingerprints = personalizer.prepared.fingerprints  # type: ignore[union-attr]
        resumed = 0
        if resume_from_checkpoint is not None:
            state = _resume(folder, resume_from_checkpoint, fingerprints, config)
            steps, resumed = personalizer.resume(state), state.step
        state = personalizer.state  # type: ignore[assignment]

        before = time.monotonic()
        loss_initial = personalizer.held_out_loss(personalizer.prepared.initial)  # type: ignore[union-attr]
        reserve = 1.5 * (time.monotonic() - before) + 1.0  # seconds the final measurement will take
        anon.sample()
        for step in steps:
            anon.sample()
            log(step)
            if on_step:
                on_step(step)
            late = time_budget_s is not None and time.monotonic() - started + reserve > time_budget_s
            last = step.step == config.zo.max_train_steps
            stopped = stop() and not last
            if step.step % config.checkpointing_steps == 0 or late or last or stopped:
                with disk_errors(folder):
                    save_checkpoint(folder, state, fingerprints)
            if stopped:
                raise Cancelled(
                    f"stopped after step {step.step}, saved; to go on: same command, --resume_from_checkpoint latest"
                )
            if late:
                break
        loss_final = personalizer.held_out_loss()
        personalizer.save(folder)
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "model": model if opened.is_pocket else opened.folder.name,
            "weights": opened.weights,
            "execution": opened.execution,
            "preset": config.preset,
            "steps": state.step,
            "unet_forwards": state.forwards,
            "seconds": round(state.seconds, 3),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "peak_anon_mb": round(anon.mb, 1),
            "loss_initial": loss_initial,
            "loss_final": loss_final,
            "seed": config.seed,
            "resumed": resumed,
            "photos_used": len(photos.pixels),
            "photos_skipped": len(photos.skipped),
            "config": config.to_dict(),
            "versions": _versions(),
        }
        write_json(folder / "run.json", record)
        if preview:
            save_png(draw_preview(personalizer), folder / "preview.png")
    return record


def draw_preview(personalizer: Personalizer) -> Any:
    """A sheet of three rows: the photos, pictures from the initial vectors, pictures from the learned ones."""
    from edge_sdk.diffusion.prompts import TEMPLATES
    from edge_sdk.generate import condition, decode, denoise, starting_noise

    prepared, model = personalizer.prepared, personalizer.model
    if prepared is None:
        raise EdgeSdkError("nothing has been learned yet; call fit first")
    learned, objective = personalizer.embedding, prepared.objective
    kind = "pocket" if model.is_pocket else personalizer.config.learnable_property
    prompt = TEMPLATES[kind][0].format(learned.token)
    count = PREVIEW_PICTURES if model.is_pocket else 1
    noise = starting_noise(personalizer.config.seed, count, objective.latents_shape)
    latents = []
    for vectors in (prepared.initial, learned.vectors):
        states = condition(objective.text, [prompt] * count, "", [LearnedEmbedding(learned.token, vectors)])
        latents.append(denoise(objective.unet, model.load_scheduler(), *states, noise, PREVIEW_STEPS, 4.0))
    prepared.objective = None  # the VAE follows the denoiser, they are never in memory together
    del objective
    release()
    vae = model.load("vae")
    rows = [("before", decode(vae, latents[0])), ("after", decode(vae, latents[1]))]
    photos = [to_pil(pixels) for pixels in prepared.photos.pixels[:PREVIEW_PICTURES]]
    return contact_sheet([("photos", photos)] + [(label, [to_pil(p) for p in pictures]) for label, pictures in rows])


def _resume(folder: Path, where: str, fingerprints: dict[str, str], config: PersonalizeConfig) -> State:
    try:
        if where == "latest":
            state, _, _ = latest_checkpoint(folder, fingerprints)
        else:
            state = load_state(Path(where) / "state.safetensors", fingerprints)
    except CheckpointError as error:
        raise EdgeSdkError(str(error)) from error
    if state.config != config.zo or state.seed != config.seed:
        raise EdgeSdkError(f"the checkpoint in {folder} was made with other settings; resume with the same command")
    return state


@contextlib.contextmanager
def _training_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except NonFiniteLossError as error:
        raise EdgeSdkError(
            f"{error}; the last good token is in {folder}, try a smaller learning_rate or zo_mu"
        ) from error


@contextlib.contextmanager
def _logger(report_to: str | None, folder: Path) -> Iterator[Callable[[Step], None]]:
    if report_to is None:
        yield lambda step: None
        return
    if report_to != "tensorboard":
        raise EdgeSdkError(f"report_to is {report_to!r}; it must be tensorboard")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise EdgeSdkError(
            "report_to tensorboard needs a package that is not installed; run: pip install tensorboard"
        ) from error
    writer = SummaryWriter(str(folder / "logs"))

    def log(step: Step) -> None:
        for name in ("loss", "grad_norm", "forwards", "seconds"):
            writer.add_scalar(name, getattr(step, name), step.step)

    try:
        yield log
    finally:
        writer.close()


def _versions() -> dict[str, str]:
    packages = ("edge-sdk", "torch", "diffusers", "transformers", "optimum-quanto", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
