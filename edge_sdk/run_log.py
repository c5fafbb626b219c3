"""What a run writes beside its results: curves for TensorBoard, and the versions of what it ran on."""

import contextlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk._version import __version__
from edge_sdk.errors import EdgeSdkError
from edge_sdk.zo import Step


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


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of this package, of Python and of those packages that are installed."""
    known = {"edge-sdk": __version__, "python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            known[name] = version(name)
    return known
