"""A personalization run on disk: lock, checkpoints, resume, the learned file, ``run.json``, the preview."""

import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_sdk import __version__, budget, mu_floor
from edge_sdk.config import OF_A_MODEL, PersonalizeConfig, refuse_beside_bundle
from edge_sdk.embedding import LearnedEmbedding
from edge_sdk.errors import EdgeSdkError
from edge_sdk.files import RUN_FILES, RunLock, check_output_dir, disk_errors, make_folder, private_umask, write_json
from edge_sdk.images import contact_sheet, load_photos, save_png, to_pil
from edge_sdk.memory import AnonPeak, cuda_peak, peak_rss_mb
from edge_sdk.models import Model
from edge_sdk.personalize import Personalizer
from edge_sdk.prepared import Personalizable, Prepared, open_model_or_bundle
from edge_sdk.stopping import SAVE, Flat, steps_of
from edge_sdk.zo import (
    CheckpointError,
    NonFiniteLossError,
    State,
    Step,
    latest_checkpoint,
    load_state,
    save_checkpoint,
)  # fmt: skip
from edge_sdk.zo.checkpoint import checkpoints

SCHEMA_VERSION = 1
PREVIEW_PICTURES = 5
PREVIEW_STEPS = 25
PREVIEW_GUIDANCE = 4.0


class Cancelled(Exception):
    """The user stopped the run; its state is saved."""


def run_personalization(
    train_data_dir: str | Path,
    output_dir: str | Path,
    model: str | None = None,
    *,
    bundle: str | Path | None = None,
    resume_from_checkpoint: str | None = None,
    time_budget_s: float | None = None,
    memory_budget_mb: float | None = None,
    preview: bool = True,
    report_to: str | None = None,
    notify: Callable[[str], None] = lambda message: None,
    on_step: Callable[[Step], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
    command: str = "personalize",
    **options: Any,
) -> dict[str, Any]:
    """Learn a token from photos and leave a complete run folder, which its owner alone can read.

    Args:
        train_data_dir: a folder of photos.
        output_dir: a new folder, or the run's own when resuming.
        model: "pocket" (the default), a diffusers folder, an integer checkpoint, or a hub id.
        bundle: a folder of `edge-sdk export`, run by ONNX Runtime, instead of a model. It has its weights, execution
            and resolution, so those settings and ``memory_budget_mb`` are refused beside it.
        resume_from_checkpoint: "latest" or the path of a checkpoint folder of this run. With "latest" a run that was
            killed before its first checkpoint starts from the beginning.
        time_budget_s: wall-clock seconds for everything but the preview; the run ends before a step that would be too
            long, with what it has, but not before the first.
        memory_budget_mb: most resident memory of the process; chooses residency and rows a call, and leaves the preview
            out where it does not fit. See `edge_sdk.budget.choose`.
        preview: draw before and after beside the photos, as ``preview.png``. It holds small copies of the photos.
        report_to: "tensorboard" writes loss curves to ``output_dir/logs``.
        notify: is told, in one line each, what the user should know (a photo that was skipped, ...).
        on_step: is called after every step. stop: asked after every step; true ends the run with `Cancelled`.
        options: any setting of `PersonalizeConfig` and `ZoConfig`.

    Returns:
        What ``run.json`` holds.

    Raises:
        EdgeSdkError: anything the user can mend, in one line.
        Cancelled: ``stop`` said so; a checkpoint was written first.
    """
    started = time.monotonic()
    config, folder = PersonalizeConfig.from_options(**options), Path(output_dir)
    if time_budget_s is not None and not time_budget_s > 0:
        raise EdgeSdkError(f"time_budget_s is {time_budget_s}; it must be above 0")
    opened = open_model_or_bundle(model, bundle, **{name: options.get(name) for name in OF_A_MODEL})
    if memory_budget_mb is not None:
        refuse_beside_bundle(memory_budget_mb=memory_budget_mb if bundle else None)
        assert isinstance(opened, Model)
        side = config.resolution or opened.resolution()
        rows = preview_rows(opened) if preview else 0
        chosen = budget.choose(opened, side, memory_budget_mb, options.get("residency"), options.get("max_batch"), rows)
        config = replace(config, residency=chosen.residency, max_batch=chosen.max_batch)
        opened = replace(opened, residency=chosen.residency)
        without = " (preview.png does not fit and is left out)" if preview and not chosen.preview else ""
        notify(f"memory budget {memory_budget_mb:g} MB: {chosen}{without}")
        preview = chosen.preview
    photos = load_photos(train_data_dir, config.resolution or opened.resolution(), config.center_crop)
    if resume_from_checkpoint == "latest" and not _is_begun(folder):
        raise EdgeSdkError(f"{folder} holds no checkpoint-<step> folder to resume from; start a run without resuming")
    with contextlib.ExitStack() as stack:
        stack.enter_context(RunLock(folder))
        if resume_from_checkpoint == "latest" and not checkpoints(folder):
            notify(f"the run in {folder} ended before its first checkpoint; it starts from the beginning")
            resume_from_checkpoint = None
        check_output_dir(folder, resume=resume_from_checkpoint is not None)
        log = stack.enter_context(_logger(report_to, folder))
        for name, why in photos.skipped:
            notify(f"skipped {name}: {why}")
        notify(f"learning from {len(photos.pixels)} photo(s)")
        personalizer, anon = Personalizer(opened), AnonPeak()
        if resume_from_checkpoint is None:
            steps, resumed = personalizer.fit(photos, config), 0
        else:
            personalizer.prepare(photos, config)
            resumed_state = _resume(folder, resume_from_checkpoint, personalizer, notify)
            steps, resumed = personalizer.resume(resumed_state), resumed_state.step
        prepared, state = personalizer.fitted(), personalizer.started()
        for message in prepared.notices:
            notify(message)

        before = time.monotonic()
        loss_initial = personalizer.held_out_loss(prepared.initial)
        reserve = 1.5 * (time.monotonic() - before) + 1.0  # seconds the final measurement will take
        flat = None
        if config.stop_when_flat:
            reached = personalizer.held_out_loss() if resumed else loss_initial
            flat = Flat(personalizer.held_out_loss, loss_initial, reached, prepared.zo)
        saving = config.checkpointing_steps or steps_of(SAVE, prepared.zo)
        anon.sample()
        clamped, marked = False, time.monotonic()
        try:
            for step in steps:
                took, marked = time.monotonic() - marked, time.monotonic()
                anon.sample()
                log(step)
                on_step(step)
                if step.clamped and not clamped:
                    clamped = True
                    notify(f"step {step.step}: the token reached the vocabulary's largest norm and is kept there")
                late = time_budget_s is not None and marked - started + took + reserve > time_budget_s
                last = step.step == prepared.zo.max_train_steps
                stopped = stop() and not last
                done = flat is not None and not (late or last or stopped) and flat(step.step)
                if step.step % saving == 0 or late or last or stopped or done:
                    _save(folder, state, prepared)
                if stopped:
                    raise Cancelled(f"stopped after step {step.step}, saved")
                if late:
                    notify(f"the time budget ends the run after step {step.step}")
                    break
                if done:
                    notify(f"the loss on draws that training never uses is flat; the run ends after step {step.step}")
                    break
            loss_final = personalizer.held_out_loss()
            if not math.isfinite(loss_final):
                raise NonFiniteLossError("the loss of the learned token is not finite")
        except NonFiniteLossError as error:
            _save(folder, state, prepared)
            path = personalizer.save(folder)
            raise EdgeSdkError(
                f"{error}; the last good token is in {path}, start a new run with a smaller learning_rate or zo_mu"
            ) from error
        personalizer.save(folder)
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": command,
            "model": opened.label,
            "weights": opened.weights,
            "execution": opened.execution,
            "residency": opened.residency,
            "device": opened.device,
            "preset": config.preset,
            "steps": state.step,
            "max_batch": config.rows(prepared.objective.latents_shape),
            "unet_forwards": state.forwards,
            "seconds": round(state.seconds, 3),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "peak_anon_mb": round(anon.mb, 1),
            **({"peak_cuda_mb": cuda_peak()} if opened.device == "cuda" else {}),
            "loss_initial": loss_initial,
            "loss_final": loss_final,
            "mu_min": state.mu_min if math.isfinite(state.mu_min) else None,
            "mu_forwards": personalizer.mu_floor.forwards if personalizer.mu_floor else 0,
            "seed": config.seed,
            "resumed": resumed,
            "photos_used": len(photos.pixels),
            "photos_skipped": len(photos.skipped),
            "config": {k: v for k, v in config.to_dict().items() if bundle is None or k not in OF_A_MODEL},
            "zo": prepared.zo.to_dict(),
            "versions": _versions(opened.packages),
        }
        write_json(folder / "run.json", record)
        if preview:
            notify("drawing preview.png (--no_preview leaves it out)")
            save_png(draw_preview(personalizer), folder / "preview.png")
    return record


def _is_begun(folder: Path) -> bool:
    """Whether a run has been at work in a folder and left no results that it cannot go on from."""
    if checkpoints(folder):
        return True
    traces = (folder / ".lock").exists() or any(folder.glob("checkpoint-*"))
    return traces and not any((folder / name).exists() for name in RUN_FILES)


def _save(folder: Path, state: State, prepared: Prepared) -> None:
    with disk_errors(folder):
        save_checkpoint(folder, state, prepared.fingerprints)


def preview_rows(model: Personalizable) -> int:
    """Pictures in a row of a preview."""
    return PREVIEW_PICTURES if model.is_pocket else 1


def draw_preview(personalizer: Personalizer) -> Any:
    """A sheet of three rows: the photos, pictures from the initial vectors, pictures from the learned ones."""
    from edge_sdk.generate import starting_noise

    prepared, model, learned = personalizer.fitted(), personalizer.model, personalizer.embedding
    prompt = model.training_prompts(personalizer.config.learnable_property, learned.token)[0]
    count = preview_rows(model)
    noise = starting_noise(personalizer.config.seed, count, prepared.objective.latents_shape)
    both = [LearnedEmbedding(learned.token, v, widths=learned.widths) for v in (prepared.initial, learned.vectors)]
    drawn = model.preview(prepared, prompt, both, noise, PREVIEW_STEPS, PREVIEW_GUIDANCE)
    rows = [("photos", [to_pil(pixels) for pixels in prepared.photos.pixels[:PREVIEW_PICTURES]])]
    rows += [(label, [to_pil(p) for p in pictures]) for label, pictures in zip(("before", "after"), drawn, strict=True)]
    return contact_sheet(rows)


def _resume(folder: Path, where: str, personalizer: Personalizer, notify: Callable[[str], None]) -> State:
    prepared, config = personalizer.fitted(), personalizer.config
    try:
        if where == "latest":
            state, path, problems = latest_checkpoint(folder, prepared.fingerprints)
            for problem in problems:
                notify(f"{problem}; going on from {path.parent.name}")
        else:
            state = load_state(Path(where) / "state.safetensors", prepared.fingerprints)
    except CheckpointError as error:
        raise EdgeSdkError(str(error)) from error
    used = (
        prepared.zo
        if "zo_mu" in config.zo_options
        else mu_floor.raised(prepared.zo, state.mu_min, prepared.vocabulary_std)
    )
    if state.config != used or state.seed != config.seed:
        raise EdgeSdkError(f"the checkpoint in {folder} was made with other settings; resume with the same command")
    prepared.zo = used
    return state


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
    with disk_errors(folder / "logs"), private_umask():
        make_folder(folder / "logs")
        writer = SummaryWriter(str(folder / "logs"))

    def log(step: Step) -> None:
        for name in ("loss", "grad_norm", "forwards", "seconds"):
            writer.add_scalar(name, getattr(step, name), step.step)

    try:
        yield log
    finally:
        writer.close()


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {"edge-sdk": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
