"""Small models that can unlearn, and pictures for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_sdk.unlearning import sampling
from edge_sdk.unlearning import unlearn as module
from edge_sdk.unlearning.audit import measure, recovery
from edge_sdk.unlearning.training import preconditioner as metric
from tests import tiny_models

FAST = (
    "--max_train_steps",
    "3",
    "--forget_batch",
    "4",
    "--retain_batch",
    "4",
    "--quiet",
    "--max_retained_similarity",
    "1",
    "--max_background_change",
    "1",
)


@pytest.fixture(autouse=True)
def few_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metric of steps looks at fewer noised pictures."""
    monkeypatch.setattr(metric, "DRAWS", 64)


@pytest.fixture(scope="session")
def ddpm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_ddpm(tmp_path_factory.mktemp("models") / "ddpm")


@pytest.fixture(scope="session")
def sd3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_sd3(tmp_path_factory.mktemp("models") / "sd3")


@pytest.fixture(scope="session")
def model_of(ddpm_folder: Path, sd1_folder: Path, sd2_folder: Path, sd3_folder: Path) -> dict[str, Path]:
    """One folder for each of epsilon on pixels, epsilon and v-prediction on latents, and flow."""
    return {"ddpm": ddpm_folder, "sd1": sd1_folder, "sd2": sd2_folder, "sd3": sd3_folder}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of random pictures of 16 pixels: "forget", "retain", "given" surrogates, and "held_out" for audits."""
    rng, folders = np.random.default_rng(3), {}
    for name, count in (("forget", 2), ("retain", 6), ("given", 2), ("held_out", 24)):
        folders[name] = tmp_path_factory.mktemp(name)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folders[name] / f"{i}.png")
    return folders


@pytest.fixture
def short_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that an audit does, on few noises and in few steps."""
    monkeypatch.setattr(measure, "NOISES", 2)
    monkeypatch.setattr(measure, "NOISED", 32)
    monkeypatch.setattr(recovery, "BATCH", 4)
    monkeypatch.setattr(sampling, "STEPS", 2)
    monkeypatch.setattr(recovery, "RELEARNING", (1, 2))


@pytest.fixture
def audit_of(short_audit: None, pictures: dict[str, Path], tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a short `edge-sdk audit` of two models into ``tmp_path`` / "a"."""

    def made(before: Path | str, after: Path | str, *more: str) -> list[str]:
        return [
            "audit",
            "--before",
            str(before),
            "--after",
            str(after),
            "--forget_data_dir",
            str(pictures["forget"]),
            "--retain_data_dir",
            str(pictures["held_out"]),
            "--output_dir",
            str(tmp_path / "a"),
            "--samples",
            "8",
            "--quiet",
            *more,
        ]

    return made


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models reproduce nothing: the check that they do has a test of its own."""
    monkeypatch.setattr(module, "check_reproducible", lambda *_: None)


@pytest.fixture
def command(pictures: dict[str, Path], tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a short `edge-sdk unlearn` into a folder of ``tmp_path``."""

    def made(model: Path | str, *more: str, output: str = "out", given: bool = True) -> list[str]:
        out = [
            "unlearn",
            "--pretrained_model_name_or_path",
            str(model),
            "--forget_data_dir",
            str(pictures["forget"]),
            "--retain_data_dir",
            str(pictures["retain"]),
            "--output_dir",
            str(tmp_path / output),
            *FAST,
        ]
        return [*out, *(["--surrogate_data_dir", str(pictures["given"])] if given else []), *more]

    return made
