"""The programs that export/README.md prints are run as they are printed."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edge_sdk import Personalizer
from edge_sdk.embedding import load_embedding
from tests.golden.bundle_runs import BUNDLE, HERE, load_photos

README = Path(__file__).parents[2] / "export" / "README.md"
TEN_LINES, CLIENT = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
Bundles = Callable[[str, str], Path]
RUN = json.loads((HERE / "bundle_runs.json").read_text())["runs"][0]


def run(program: str, folder: Path) -> str:
    """Run a program in a folder, where nothing of this project can be imported."""
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    return tmp_path


def test_the_ten_lines_run_as_printed(folder: Path) -> None:
    out = run(f"{TEN_LINES}\nprint(loss.shape, residual.shape, loss[0] > 0)", folder)
    assert out == "(1,) (1, 4, 4, 4) True\n"


def test_every_program_switches_telemetry_off_before_the_runtime_is_loaded() -> None:
    for program in (TEN_LINES, CLIENT):
        lines = program.splitlines()
        switch = next(i for i, line in enumerate(lines) if "ORT_DISABLE_TELEMETRY" in line)
        assert switch < next(i for i, line in enumerate(lines) if "onnxruntime" in line and "import" in line)


def learned_by_the_client(folder: Path, change: dict[str, Any], seed: int, vectors: int = 1) -> Path:
    """The printed client on the folder's bundle with the golden photos, some settings of the preset changed."""
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    manifest["presets"]["fast"] |= change
    (folder / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    photos = load_photos(manifest["resolution"])
    np.save(folder / "pixels.npy", photos.pixels)
    given = (
        "import numpy\n"
        f"photos = [(p, *size) for p, size in zip(numpy.load('pixels.npy'), {photos.sizes})]\n"
        f"placeholder, word, seed = '<mug>', 'mug', {seed}\n"
    )
    client = CLIENT.replace("K, C, H, W = 1,", f"K, C, H, W = {vectors},")
    assert run(f"{given}{client}\nprint(count)", folder) == f"{change['max_train_steps']}\n"
    return folder / "learned_embeds.safetensors"


def assert_learned(path: Path, vectors: np.ndarray, initial: np.ndarray) -> None:
    way = np.abs(vectors - initial).max()
    assert way > 0.01
    np.testing.assert_allclose(load_embedding(path).vectors, vectors, atol=0.01 * way)


def test_the_client_learns_what_python_learns(folder: Path) -> None:
    path = learned_by_the_client(folder, RUN["change"], RUN["seed"])
    assert load_embedding(path).token == "<mug>" and list(load_file(path)) == ["<mug>"]
    assert_learned(path, np.array(RUN["vectors"]), np.array(RUN["initial"]))


def test_it_learns_two_vectors_for_two_text_encoders(bundle_of: Bundles, tmp_path: Path) -> None:
    shutil.copytree(bundle_of("sdxl", "int8"), tmp_path / "bundle")
    personalizer = Personalizer.from_bundle(tmp_path / "bundle")
    options = {"placeholder_token": "<mug>", "initializer_token": "mug", "num_vectors": 2, "seed": 3}
    for _ in personalizer.fit(load_photos(16), max_train_steps=4, zo_samples=8, **options):
        pass
    path = learned_by_the_client(tmp_path, {"max_train_steps": 4, "zo_samples": 8}, 3, vectors=2)
    assert set(load_file(path)) == {"clip_l", "clip_g"} and load_embedding(path).token == "<mug>"
    assert_learned(path, personalizer.embedding.vectors, personalizer.fitted().initial)


def test_the_client_imports_nothing_of_this_project_and_is_short() -> None:
    assert "edge_sdk" not in CLIENT and len([line for line in CLIENT.splitlines() if line.strip()]) < 140
