"""What a run says of itself: its record, and curves and pictures for TensorBoard."""

import contextlib
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from edge_sdk._version import __version__
from edge_sdk.config import OF_A_MODEL
from edge_sdk.errors import EdgeSdkError
from edge_sdk.personalizer import Personalizer
from edge_sdk.system.files import disk_errors, make_folder, private_umask
from edge_sdk.system.memory import cuda_peak, peak_rss_mb
from edge_sdk.zo import Step

SCHEMA_VERSION = 1  # of run.json


# Forward passes that are foretold, of each part; for the floor of mu the least and the most.
ForwardsOf = TypedDict(
    "ForwardsOf",
    {"floor of mu": list[int], "held-out losses": int, "steps": int, "preview": int, "validation": int},
)


class RunRecord(TypedDict, total=False):
    """What ``run.json`` holds. Of a dry run: ``steps`` and the figures that are foretold."""

    schema_version: int
    command: str
    model: str
    weights: str
    execution: str
    residency: str
    device: str
    preset: str
    steps: int
    max_batch: int
    unet_forwards: int
    seconds: float
    peak_rss_mb: float
    peak_anon_mb: float
    peak_cuda_mb: dict[str, float]  # on a GPU only
    loss_initial: float  # of the initial token, on the held-out draws
    loss_final: float  # of the learned one
    variance_share: float | None  # of the vocabulary, along the directions that were searched
    mu_min: float | None
    mu_forwards: int
    seed: int
    resumed: int  # steps of earlier processes
    photos_used: int
    photos_skipped: int
    config: dict[str, object]
    zo: dict[str, object]
    versions: dict[str, str]
    forwards: int  # foretold, at most
    forwards_of: ForwardsOf
    seconds_per_forward: float  # foretold


class RunLog:
    """Curves and pictures in ``output_dir/logs``, or nowhere.

    Raises:
        EdgeSdkError: another kind of log is asked for, or TensorBoard is not installed.
    """

    def __init__(self, report_to: str | None, folder: Path) -> None:
        self._writer: Any = None
        if report_to is None:
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
            self._writer = SummaryWriter(str(folder / "logs"))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, step: Step) -> None:
        """Add a step to the curves."""
        if self._writer is not None:
            for name in ("loss", "grad_norm", "forwards", "seconds"):
                self._writer.add_scalar(name, getattr(step, name), step.step)

    def picture(self, pixels: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 of the validation prompt."""
        if self._writer is not None:
            self._writer.add_image("validation", pixels, step, dataformats="HWC")


def record_of(
    personalizer: Personalizer,
    command: str,
    losses: tuple[float, float],
    resumed: int,
    peak_anon_mb: float,
    of_a_bundle: bool,
) -> RunRecord:
    """The record of a run.

    Args:
        losses: on the held-out draws, of the initial and of the learned token. resumed: steps of earlier processes.
        of_a_bundle: weights, execution, residency and device are no settings of the run.
    """
    prepared, state, config = personalizer.fitted(), personalizer.started(), personalizer.config
    runtime, without = personalizer.model, OF_A_MODEL if of_a_bundle else ()
    record: RunRecord = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "model": runtime.label,
        "weights": runtime.weights,
        "execution": runtime.execution,
        "residency": runtime.residency,
        "device": runtime.device,
        "preset": config.preset,
        "steps": state.step,
        "max_batch": config.rows(prepared.objective.latents_shape, prepared.objective.rows),
        "unet_forwards": state.forwards,
        "seconds": round(state.seconds, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "peak_anon_mb": round(peak_anon_mb, 1),
        "loss_initial": losses[0],
        "loss_final": losses[1],
        "variance_share": prepared.variance_share,
        "mu_min": state.mu_min if math.isfinite(state.mu_min) else None,
        "mu_forwards": personalizer.mu_floor.forwards if personalizer.mu_floor else 0,
        "seed": config.seed,
        "resumed": resumed,
        "photos_used": len(prepared.photos.pixels),
        "photos_skipped": len(prepared.photos.skipped),
        "config": {name: value for name, value in config.to_dict().items() if name not in without},
        "zo": prepared.zo.to_dict(),
        "versions": versions(runtime.packages),
    }
    if runtime.device == "cuda":
        record["peak_cuda_mb"] = cuda_peak()
    return record


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of this package, of Python and of those packages that are installed."""
    known = {"edge-sdk": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            known[name] = version(name)
    return known
