"""Models and photos that several tests use; built once a session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or a worker's notices come after pytest's last line
os.environ.setdefault("OMP_NUM_THREADS", "1")  # `make test` runs two processes; on two cores more threads wait

import functools
import gc
import itertools
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_sdk import mu_floor, quantize
from edge_sdk.export.bundle import export
from tests import tiny_models
from tests.export import bundles

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under `nohup` the commands that tests start would not hear of it


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is imported by now is never looked at again: every `release` is a collection of all the rest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="PyTorch finds no GPU here"))


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def floors(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test begins without a remembered floor of mu, and leaves none in the user's cache folder."""
    place = tmp_path_factory.getbasetemp() / f"floors-{next(_NUMBERS)}" / "edge-sdk" / "mu-floors.json"
    monkeypatch.setattr(mu_floor, "path", lambda: place)
    return place


@pytest.fixture(scope="session")
def sd1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "sd1", "sd1")


@pytest.fixture(scope="session")
def sd2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "sd2", "sd2")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "sdxl", "sdxl")


@pytest.fixture(scope="session")
def checkpoint_of(
    sd1_folder: Path, sd2_folder: Path, sdxl_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Integer checkpoints, by family and weights; each is made when it is first asked for."""
    folders = {"sd1": sd1_folder, "sd2": sd2_folder, "sdxl": sdxl_folder}

    @functools.cache
    def made(family: str, weights: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / f"{family}-{weights}"
        quantize(str(folders[family]), folder, weights)
        return folder

    return made


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Bundles by family ("pocket", or one of `bundles.FAMILIES`) and weights, made when they are asked for."""
    folder = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def made(family: str, weights: str) -> Path:
        out = folder / f"{family}-{weights}"
        export(bundles.source(folder, family), out, weights=weights)
        return out

    return made


@pytest.fixture
def copy_of(bundle_of: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """A bundle of the tiny Stable Diffusion 1.x model to break."""
    return Path(shutil.copytree(bundle_of("sd1", "int8"), tmp_path / "bundle"))
