"""Bundles that several tests read; each is made when it is first asked for."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from export.bundle import export
from tests.export import bundles


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Bundles by family ("pocket", or one of `bundles.FAMILIES`) and weights."""
    folder = tmp_path_factory.mktemp("bundles")

    @functools.cache
    def model(family: str) -> str:
        return "pocket" if family == "pocket" else str(bundles.build(folder / family, family))

    @functools.cache
    def made(family: str, weights: str) -> Path:
        out = folder / f"{family}-{weights}"
        export(model(family), out, weights=weights)
        return out

    return made


@pytest.fixture
def copy_of(bundle_of: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """A bundle of the tiny Stable Diffusion 1.x model to break."""
    return Path(shutil.copytree(bundle_of("sd1", "int8"), tmp_path / "bundle"))
