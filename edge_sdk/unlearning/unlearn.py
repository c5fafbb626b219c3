"""Forgetting pictures: from folders of targets and retained pictures to a repaired model and a patch.

Read this first, then `losses.py`, `optimizer.py` and `surgery.py`.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_sdk._version import __version__
from edge_sdk.diffusion import folder as model_files
from edge_sdk.errors import Cancelled, EdgeSdkError
from edge_sdk.images import check_photos, skip_notices
from edge_sdk.system.files import SHIPPED, RunLock, disk_errors, make_folder, remove_leftovers, whole_folder, write_json
from edge_sdk.system.paths import expanded
from edge_sdk.unlearning.config import UnlearnConfig
from edge_sdk.unlearning.data import (
    MAX_PICTURES,
    Pictures,
    read,
    refuse_forgotten,
    refuse_overlap,
    refuse_skipped,
    salted_hash,
)
from edge_sdk.unlearning.denoiser import Denoiser, load_denoiser
from edge_sdk.unlearning.estimate import Estimate, estimate
from edge_sdk.unlearning.patch import copied, requests_of, write_model, write_patch
from edge_sdk.unlearning.place import Place, locate
from edge_sdk.unlearning.sampling import reconstruct
from edge_sdk.unlearning.similarity import Similarity, shared_notice
from edge_sdk.unlearning.training.loop import Unlearner, UnlearnStep
from edge_sdk.unlearning.training.losses import Losses
from edge_sdk.unlearning.training.surrogate import Surrogates, make_surrogates
from edge_sdk.zo.noise import PROBE, normals

SCHEMA_VERSION = 1
STATE = "state.safetensors"  # of a run at work
RECORD = "unlearn.json"  # of its results
PROBE_TIMESTEP, PROBE_NOISES = 0.5, 8  # where, as a share of T, and how often a target is reconstructed beforehand
REPRODUCED = 0.5  # similarity of a target to its reconstructions, without which the model does not know it
TOLERANCE = 0.02  # and they may be so much more like a retained picture, such as another view of the same person


@dataclass(frozen=True)
class Sources:
    """Where everything is."""

    model: str  # "pocket", a diffusers folder or a hub id
    forget_data_dir: str | Path
    retain_data_dir: str | Path
    surrogate_data_dir: str | Path | None = None
    mask_data_dir: str | Path | None = None
    similarity: str = "pixels"


@dataclass(frozen=True)
class Prepared:
    """Everything that is read and made before training."""

    denoiser: Denoiser
    targets: Pictures
    retained: Pictures
    surrogates: Surrogates
    estimate: Estimate
    base_sha256: str

    def losses(self, config: UnlearnConfig) -> Losses:
        return Losses(self.denoiser, self.targets.x0, self.surrogates.x0, self.retained.x0, config)


def prepare(place: Place, sources: Sources, config: UnlearnConfig, notify: Callable[[str], None]) -> Prepared:
    """Read pictures, check that there is something to forget, and make surrogates; nothing is written.

    Args:
        place: where the model of ``sources`` is.

    Raises:
        EdgeSdkError: a model or picture that cannot be used, a target that is also kept or that the model cannot
            reproduce, or no admitted surrogate.
    """
    similarity = Similarity(sources.similarity)
    copied(place.folder, place.part)  # a part that cannot be is refused before training
    need = estimate(place.config, place.shape(config.resolution), config)
    notify(f"memory of training: {need}")
    denoiser = load_denoiser(place, config.resolution, config.device)
    targets = read(denoiser, sources.forget_data_dir, "forget_data_dir", whole=True)
    retained = read(denoiser, sources.retain_data_dir, "retain_data_dir")
    for message in (*skip_notices(retained.skipped), *shared_notice(similarity, retained.pixels)):
        notify(message)
    given, learned, requests = None, {"retain_data_dir": retained}, requests_of(denoiser.folder)
    if sources.surrogate_data_dir is not None:
        given = read(denoiser, sources.surrogate_data_dir, "surrogate_data_dir", whole=True)
        learned["surrogate_data_dir"] = given
    for what, pictures in learned.items():
        refuse_overlap(targets, pictures, what)
        refuse_forgotten(pictures, requests, what)
    check_reproducible(denoiser, targets, retained, config, similarity)
    surrogates = make_surrogates(denoiser, targets, retained, config, similarity, given, sources.mask_data_dir)
    worst = max(score["to_target"] for one in surrogates.scores for score in one)
    notify(
        f"{len(targets)} target(s), {len(retained)} retained; surrogates of each target: "
        f"{', '.join(map(str, surrogates.admitted))}; their similarity to targets at most {worst:.3f}"
    )
    return Prepared(denoiser, targets, retained, surrogates, need, model_files.fingerprint(denoiser.folder))


def check_reproducible(
    denoiser: Denoiser, targets: Pictures, retained: Pictures, config: UnlearnConfig, similarity: Similarity
) -> None:
    """Raises EdgeSdkError if a target does not come back from half of the noise, or comes back as someone else."""
    condition = denoiser.condition(config.prompt)
    t = int(PROBE_TIMESTEP * denoiser.schedule.num_train_timesteps)
    noise = torch.from_numpy(normals(config.seed, PROBE.stream, PROBE.first, (PROBE_NOISES, *denoiser.shape)))
    for i, (pixels, x0) in enumerate(zip(targets.pixels, targets.x0, strict=True)):
        many = x0.expand(PROBE_NOISES, *x0.shape)
        rebuilt = denoiser.decode(reconstruct(denoiser, denoiser.module, many, noise.to(x0.device), t, condition))
        own = similarity(rebuilt.cpu().numpy(), pixels[None])[:, 0]
        others = similarity(rebuilt.cpu().numpy(), retained.pixels)
        nearest = others[:, others.mean(axis=0).argmax()]
        if surely_below(own, REPRODUCED) or surely_below(own - nearest, -TOLERANCE):
            raise EdgeSdkError(
                f"picture {i + 1} of forget_data_dir is not what the model makes of its noised self (similarity "
                f"{own.mean():.3f}, {REPRODUCED:g} is wanted; of a retained picture {nearest.mean():.3f}): there is "
                "nothing to forget; leave it out"
            )


def surely_below(values: np.ndarray, limit: float) -> bool:
    """Whether the mean of values (N,) is below a limit by more than two of its standard errors.

    From half of the noise a face comes back as itself or as someone else, so few noises say little.
    """
    return bool(values.mean() + 2 * values.std(ddof=1) / np.sqrt(len(values)) < limit)


def unlearn(
    sources: Sources,
    output_dir: str | Path,
    config: UnlearnConfig,
    resume: bool = False,
    dry_run: bool = False,
    notify: Callable[[str], None] = lambda message: None,
    progress: Callable[[UnlearnStep], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Forget every picture of a folder; returns what ``unlearn.json`` holds.

    While it is at work, its state is in a hidden folder beside ``output_dir``, for its owner alone. The results appear
    whole at the end; they are made to be shipped, so who may read them is what the umask says. Under
    ``accelerate launch --multi_gpu`` (which starts processes on processors too) every process takes its share of each
    batch, and the first one writes.

    Raises:
        EdgeSdkError: see `prepare`; the folder exists, cannot be written or is the model's own, or has no run to
            resume; a loss is not finite.
        Cancelled: ``stop`` said so; the state is saved.
    """
    rank, processes = _processes(config.device)
    folder = expanded(output_dir).resolve()  # what a link points to
    work = working_folder(folder, resume or dry_run)
    if resume and not work.exists():
        raise EdgeSdkError(f"{work} holds no interrupted run; leave out --resume_from_checkpoint to start one")
    check_folders(sources)
    place = locate(sources.model)
    refuse_inside(folder, place.folder)
    notify = (lambda message: None) if rank else notify
    if resume and not (work / STATE).exists():
        resume = False
        notify(f"the run in {work} ended before its first state was saved; it starts from the beginning")
    ready = prepare(place, sources, config, notify)
    run, identity = Unlearner(ready.losses(config), rank, processes), _identity(ready, config)
    if dry_run:
        seconds = _foretell(run.step(), config.max_train_steps, notify)
        record = {"estimate": {**asdict(ready.estimate), "seconds": seconds}, "surrogates": ready.surrogates.scores}
        return {} if rank else record
    if resume:
        run.restore(work / STATE, identity)
        notify(f"resumed after step {len(run.history)}")
    if rank:
        _train(run, config, notify, lambda: None, lambda step: None, stop)
        return {}
    with disk_errors(folder):
        make_folder(folder.parent, SHIPPED)
    with _working_in(work), disk_errors(folder):
        _train(run, config, notify, lambda: run.save(work / STATE, identity), progress, stop)
        record = _record(ready, run, config, sources)
        with whole_folder(folder, SHIPPED) as new:
            write_patch(new / "patch", run.trainable)
            earlier = requests_of(ready.denoiser.folder)
            write_model(new / "model", ready.denoiser, run.trainable.merged(), {"requests": [*earlier, record]})
            record["model_sha256"] = model_files.fingerprint(new / "model")
            write_json(new / RECORD, {**record, "earlier_requests": earlier}, SHIPPED)
    return record


def check_folders(sources: Sources) -> None:
    """Raises EdgeSdkError if a folder of pictures cannot be used; no model is needed to see that."""
    check_photos(sources.retain_data_dir, "retain_data_dir")
    complete = {
        "forget_data_dir": sources.forget_data_dir,
        "surrogate_data_dir": sources.surrogate_data_dir,
        "mask_data_dir": sources.mask_data_dir,
    }
    for what, folder in complete.items():
        if folder is not None:
            refuse_skipped(check_photos(folder, what, whole=True, limit=MAX_PICTURES), folder, what)


def working_folder(folder: Path, may_hold_a_run: bool) -> Path:
    """Where a run is at work until its results appear in ``folder``, an absolute path.

    Raises:
        EdgeSdkError: the folder cannot be replaced, there are results already, or an interrupted run that may not be
            there.
    """
    if folder == Path.cwd() or folder.is_mount():
        raise EdgeSdkError(f"{folder} cannot be replaced by results; give a new folder as --output_dir")
    remove_leftovers(folder.parent, folder.name)
    work = folder.with_name(f".{folder.name}.unlearning")
    if (folder / RECORD).exists() and work.exists():  # of a run that was killed just after its results appeared
        with RunLock(work):
            shutil.rmtree(work, ignore_errors=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EdgeSdkError(f"{folder} already exists and is not an empty folder; use another --output_dir")
    if not may_hold_a_run and (work / STATE).exists():
        raise EdgeSdkError(
            f"{work} holds an interrupted run; go on with --resume_from_checkpoint latest, or remove it to start anew"
        )
    return work


def refuse_inside(folder: Path, base: Path) -> None:
    """Raises EdgeSdkError if results would be among the files of the base model."""
    base = base.resolve()
    if folder.is_relative_to(base):
        raise EdgeSdkError(f"{folder} is inside {base}, the base model; give an --output_dir outside of it")


@contextlib.contextmanager
def _working_in(work: Path) -> Iterator[None]:
    """The hidden folder of a run, locked; only a state that a run can go on from is left in it after an error."""
    with RunLock(work):
        done = False
        try:
            yield
            done = True
        finally:
            if done or not (work / STATE).exists():
                shutil.rmtree(work, ignore_errors=True)


def _train(
    run: Unlearner,
    config: UnlearnConfig,
    notify: Callable[[str], None],
    save: Callable[[], None],
    progress: Callable[[UnlearnStep], None],
    stop: Callable[[], bool],
) -> None:
    begun = len(run.history)
    while len(run.history) < config.max_train_steps:
        done = run.step()
        if len(run.history) == begun + 1:
            _foretell(done, config.max_train_steps - begun, notify)
        progress(done)
        stopping = run.any_of_all(stop())  # a signal reaches one process a step before another
        if stopping or len(run.history) % config.checkpointing_steps == 0:
            save()
        if stopping:
            run.any_of_all(True)  # the state is saved before any process ends, upon which the launcher ends the others
            raise Cancelled(f"stopped after step {len(run.history)}, which is saved")


def _foretell(first: UnlearnStep, steps: int, notify: Callable[[str], None]) -> float:
    """Say how many seconds so many steps will take, by the first of them."""
    seconds = first.seconds * steps
    notify(f"time of training: about {seconds:.0f} s, {first.seconds:.2f} s a step")
    return seconds


def _processes(device: str) -> tuple[int, int]:
    """This process's number and how many there are."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return state.process_index, state.num_processes


def _identity(ready: Prepared, config: UnlearnConfig) -> str:
    """Of the model, the pictures and the settings, but for the number of steps if no step depends on it."""
    free = {"device"} | ({"max_train_steps"} if config.lr_scheduler == "constant" else set())
    settings = {name: value for name, value in config.to_dict().items() if name not in free}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(ready.base_sha256.encode())
    for pixels in (ready.targets.pixels, ready.retained.pixels, ready.surrogates.pixels):
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def _record(ready: Prepared, run: Unlearner, config: UnlearnConfig, sources: Sources) -> dict[str, Any]:
    """What was done and measured; a picture is named by a salted hash only."""
    from importlib.metadata import version

    salt = secrets.token_bytes(16)
    steps = run.history
    return {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"edge-sdk {__version__}",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": Path(sources.model).name,
        "base_sha256": ready.base_sha256,
        "salt": salt.hex(),
        "targets": [salted_hash(pixels, salt) for pixels in ready.targets.pixels],
        "surrogates": [
            [{"sha256": salted_hash(pixels, salt), **score} for pixels, score in zip(many, scores, strict=True)]
            for many, scores in zip(ready.surrogates.pixels, ready.surrogates.scores, strict=True)
        ],
        "similarity": Similarity(sources.similarity).name,
        "retained": len(ready.retained),
        "config": config.to_dict(),
        "steps": len(steps),
        "seconds": sum(step.seconds for step in steps),
        "share_of_steps_without_rise": sum(step.retain_change <= 0 for step in steps) / len(steps),
        "share_of_steps_in_conflict": sum(step.cosine < 0 for step in steps) / len(steps),
        "forget_loss": [steps[0].forget_loss, steps[-1].forget_loss],
        "retain_loss": [steps[0].retain_loss, steps[-1].retain_loss],
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
    }
