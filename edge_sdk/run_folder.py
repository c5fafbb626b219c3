"""A personalization run on disk: lock, checkpoints, resume, the learned file, ``run.json``, the preview."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from edge_sdk import mu_floor
from edge_sdk.config import OF_A_MODEL, PersonalizeConfig, refuse_beside_bundle
from edge_sdk.errors import EdgeSdkError
from edge_sdk.forecast import foretell
from edge_sdk.images import check_photos, load_photos, skip_notices
from edge_sdk.option_types import PersonalizeOptions, PredictionType
from edge_sdk.personalizer import Personalizer
from edge_sdk.preparation import Prepared
from edge_sdk.preview import Validation, preview_rows
from edge_sdk.progress import OnProgress, silent
from edge_sdk.run import Run
from edge_sdk.run_log import RunLog, RunRecord
from edge_sdk.runtime.open import open_runtime
from edge_sdk.system.checkpoints import checkpoints, latest_checkpoint, load_state, save_checkpoint
from edge_sdk.system.files import RUN_FILES, RunLock, check_output_dir, disk_errors, refuse_taken
from edge_sdk.system.paths import expanded
from edge_sdk.time_budget import TimeBudget
from edge_sdk.zo import CheckpointError, State, Step

Notify = Callable[[str], None]


def run_personalization(
    train_data_dir: str | Path,
    output_dir: str | Path,
    model: str | None = None,
    *,
    bundle: str | Path | None = None,
    prediction_type: PredictionType | None = None,
    resume_from_checkpoint: str | None = None,
    time_budget_s: float | None = None,
    started: float | None = None,
    memory_budget_mb: float | None = None,
    preview: bool = True,
    validation_prompt: str | None = None,
    validation_steps: int | None = None,
    report_to: str | None = None,
    dry_run: bool = False,
    notify: Notify = lambda message: None,
    on_progress: OnProgress = silent,
    on_step: Callable[[Step], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
    command: str = "personalize",
    **options: Unpack[PersonalizeOptions],
) -> RunRecord:
    """Learn a token from photos and leave a complete run folder, which its owner alone can read.

    Args:
        train_data_dir: a folder of photos.
        output_dir: a new folder, or the run's own when resuming.
        model: "pocket" (the default), a diffusers folder, a single-file checkpoint, an integer checkpoint, or a hub id.
        bundle: a folder of `edge-sdk export`, run by ONNX Runtime, instead of a model. It has its weights, execution
            and resolution, so those settings and ``memory_budget_mb`` are refused beside it.
        prediction_type: of a single-file checkpoint, see `edge_sdk.runtime.pytorch.model.open_model`.
        resume_from_checkpoint: "latest" or the path of a checkpoint folder of this run. With "latest" a run that was
            killed before its first checkpoint starts from the beginning.
        time_budget_s: wall-clock seconds for everything. The run ends before a step that would be too long, with what
            it has, but not before the first; pictures are left out where there is no time for them.
        started: `time.monotonic` when the budget began; now by default.
        memory_budget_mb: most resident memory of the process; chooses residency and rows a call, and leaves the preview
            out where it does not fit. See `edge_sdk.runtime.pytorch.memory_budget.choose`.
        preview: draw before and after beside the photos, as ``preview.png``. It holds small copies of the photos.
        validation_prompt: drawn every ``validation_steps`` steps (10) as ``validation/step-000010.png``.
        report_to: "tensorboard" writes loss curves, and pictures of the validation prompt, to ``output_dir/logs``.
        dry_run: measure a little, write nothing, and return what `edge_sdk.forecast.foretell` says.
        notify: is told, in one line each, what the user should know (a photo that was skipped, ...).
        on_progress: is called with a stage's name, how much of it is done and how much there is (0: not counted).
        on_step: is called after every step. stop: asked after every step; true ends the run with `Cancelled`.
        options: any setting of `PersonalizeConfig` and `ZoConfig`.

    Returns:
        What ``run.json`` holds.

    Raises:
        EdgeSdkError: anything the user can mend, in one line.
        Cancelled: ``stop`` said so; a checkpoint was written first.
    """
    config, folder = PersonalizeConfig.from_options(**options), expanded(output_dir)
    time_budget = TimeBudget(time_budget_s, time.monotonic() if started is None else started)
    validation = Validation.of(validation_prompt, validation_steps)
    check_photos(train_data_dir)
    if bundle is not None:
        refuse_beside_bundle(search_basis=config.search_basis)
    how = {name: options.get(name) for name in OF_A_MODEL}
    runtime = open_runtime(model, bundle, prediction_type=prediction_type, **how)
    personalizer = Personalizer(runtime, residency=options.get("residency"))
    personalizer.notify, personalizer.on_progress = notify, on_progress
    personalizer.validation_prompt = validation_prompt
    if memory_budget_mb is not None:
        rows = preview_rows(runtime) if preview else 0
        config, choice = personalizer.limit_memory(config, memory_budget_mb, rows, validation is not None)
        without = " (preview.png does not fit and is left out)" if preview and not choice.preview else ""
        notify(f"memory budget {memory_budget_mb:g} MB: {choice}{without}")
        preview = choice.preview
    resolution = config.resolution or personalizer.model.resolution()
    photos = load_photos(train_data_dir, resolution, config.center_crop, use_captions=config.use_captions)
    if resume_from_checkpoint == "latest" and not _is_begun(folder):
        raise EdgeSdkError(f"{folder} holds no checkpoint-<step> folder to resume from; start a run without resuming")
    with contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(RunLock(folder))
            if resume_from_checkpoint == "latest" and not checkpoints(folder):
                notify(f"the run in {folder} ended before its first checkpoint; it starts from the beginning")
                resume_from_checkpoint = None
            check_output_dir(folder, resume=resume_from_checkpoint is not None)
        for message in skip_notices(photos.skipped):
            notify(message)
        notify(f"learning from {len(photos.pixels)} photo(s)")
        if dry_run:
            refuse_taken(folder, resume_from_checkpoint is not None)
            personalizer.prepare(photos, config)
            return foretell(personalizer, preview, validation, time_budget.started)
        log = stack.enter_context(RunLog(report_to, folder))
        run = Run(
            folder,
            personalizer,
            time_budget,
            preview,
            validation,
            bundle is not None,
            log,
            notify,
            on_progress,
            on_step,
            stop,
            _save,
        )
        if resume_from_checkpoint is None:
            run.start(photos, config)
        else:
            personalizer.prepare(photos, config)
            run.resume(_resume(folder, resume_from_checkpoint, personalizer, notify))
        run.train()
        record = run.record(command)
        run.draw_preview(record)
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


def _resume(folder: Path, where: str, personalizer: Personalizer, notify: Notify) -> State:
    prepared, config = personalizer.fitted(), personalizer.config
    try:
        if where == "latest":
            state, path, problems = latest_checkpoint(folder, prepared.fingerprints)
            for problem in problems:
                notify(f"{problem}; going on from {path.parent.name}")
        else:
            state = load_state(expanded(where) / "state.safetensors", prepared.fingerprints)
    except CheckpointError as error:
        raise EdgeSdkError(str(error)) from error
    is_chosen = "zo_mu" in config.zo_options or personalizer.model.mu_min is not None  # see `Personalizer.fit`
    used = prepared.zo if is_chosen else mu_floor.raised(prepared.zo, state.mu_min, prepared.vocabulary_std)
    if state.config != used or state.seed != config.seed:
        raise EdgeSdkError(f"the checkpoint in {folder} was made with other settings; resume with the same command")
    prepared.zo = used
    return state
